"""The tables as text, cell by cell. Renderers only format it."""

from __future__ import annotations

from dataclasses import dataclass

from . import format
from .tables import Row, Table
from .tuning import Choice


@dataclass(frozen=True)
class Text:
    """One cell as text, with the number it sorts by."""

    text: str
    value: float | None = None
    bold: bool = False


Grid = tuple[list[str], list[list[Text]]]


def score_grid(table: Table, which: str = "best") -> Grid:
    """The methods x tasks table as text; costs are in the ``best`` one."""
    header = ["Method", *(format.heading(task, metric) for task, metric in table.metrics.items())]
    if table.averaged:
        header.append("Average")
    if which == "best":
        header += ["Trainable", "Time per run", "Peak memory"]
    rows = []
    for row in table.rows:
        cells = [Text(row.label)]
        for task in table.tasks:
            group = row.groups.get(task)
            summary = getattr(group, which) if group else None
            bold = which == "best" and task in row.best_on
            cells.append(Text(format.score(group, which), summary.mean if summary else None, bold))
        if table.averaged:
            average = row.average(table.tasks, which)
            cells.append(Text(format.percent(average), average))
        if which == "best":
            cells += _costs(row)
        rows.append(cells)
    return header, rows


def comparison_grid(table: Table) -> Grid:
    header = ["Task", "Method", "Reference", "Seeds", "Difference [95% CI]", "Verdict", "p (seeds)", "Holm (seeds)"]
    header += ["Example test", "p (examples)", "Holm (examples)"]
    rows = []
    for c in table.comparisons:
        test = c.examples
        digits = format.decimals(c.reference.best.mean if c.reference.best else None)
        rows.append(
            [
                Text(c.task),
                Text(c.label),
                Text(c.reference_label),
                Text(str(c.difference.n), c.difference.n),
                Text(format.difference(c.difference, digits, c.group.first.metric), c.difference.mean),
                Text(c.verdict + (f" ({c.remark})" if c.remark else "")),
                Text(format.p_value(c.difference.p), c.difference.p),
                Text(format.p_value(c.p_holm), c.p_holm),
                Text(f"{test.name}, {test.examples} examples" if test else format.NOTHING),
                Text(format.p_value(test.p if test else None), test.p if test else None),
                Text(format.p_value(c.examples_holm), c.examples_holm),
            ]
        )
    return header, rows


def choice_grid(table: Table) -> Grid:
    """Every setting that was tried, with the score that decided."""
    names = table.tuned_keys
    tried = [(row.name, choice, group) for row in table.rows for choice in row.choices for group in choice.candidates]
    metrics = dict.fromkeys(choice.metric for _, choice, _ in tried)
    with_alpha = any(choice.family.alpha_rule for _, choice, _ in tried)
    rows = []
    for name, choice, group in tried:
        values = choice.values(group)
        mark = _mark(choice) if group is choice.chosen else ""
        rows.append(
            [
                Text(group.first.task),
                Text(name),
                *(Text(values.get(key, format.NOTHING)) for key in names),
                *([Text(format.alpha(choice.family))] if with_alpha else []),
                Text(format.score(group, "selected"), group.selected.mean if group.selected else None),
                Text(mark),
            ]
        )
    alpha = ["alpha"] if with_alpha else []
    return ["Task", "Method", *names, *alpha, f"Selection split ({' / '.join(metrics)})", "Chosen"], rows


def _mark(choice: Choice) -> str:
    if choice.searched:
        note = choice.family.note
        return f"yes ({note})" if note else "yes"
    edge = ", at the edge of the grid" if choice.at_edge else ""
    better = ["/".join(choice.values(group).values()) for group in choice.rivals]
    return f"yes{edge}" + (f", though {' and '.join(better)} did better over the seeds of both" if better else "")


def _costs(row: Row) -> list[Text]:
    groups = [group for group in row.groups.values() if group.finished]
    trainable = [v for g in groups if (v := g.mean("parameters", "trainable")) is not None]
    times = [(v, g.n) for g in groups if (v := g.mean("seconds", "total")) is not None]
    device = max((v for g in groups if (v := g.peak("peak_memory_bytes", "device")) is not None), default=None)
    host = max((v for g in groups if (v := g.peak("peak_memory_bytes", "host")) is not None), default=None)
    low, high = (format.count(min(trainable)), format.count(max(trainable))) if trainable else (format.NOTHING,) * 2
    mean_time = sum(v * n for v, n in times) / sum(n for _, n in times) if times else None
    peak, where = (device, " GPU") if device is not None else (host, " host" if host is not None else "")
    return [
        Text(low if low == high else f"{low} to {high}", max(trainable, default=None)),
        Text(format.seconds(mean_time), mean_time),
        Text(format.memory(peak) + where, peak),
    ]
