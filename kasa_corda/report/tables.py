"""Methods x tasks: one table per model, scale and way of choosing the epoch. Renderers only format it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ..errors import ConfigError, unknown
from . import format
from .compare import SIGNIFICANT, Comparison, compare, corrected
from .groups import Group, build_groups, differing_keys, short_names, shown
from .notes import caption, table_notes
from .records import RunRecord
from .statistics import holm, paired_difference

MIN_SEEDS_FOR_BOLD = 3
UNSET = "unset"


@dataclass
class Row:
    """One method (in one setting) over the tasks; ``best_on`` are the tasks it wins beyond noise."""

    label: str
    method: str
    groups: dict[str, Group]
    best_on: set[str] = field(default_factory=set)

    def average(self, tasks: Sequence[str], which: str) -> float | None:
        """Mean over all tasks of the table; None if one is missing."""
        summaries = [getattr(self.groups[task], which) for task in tasks if task in self.groups]
        means = [summary.mean for summary in summaries if summary is not None]
        return sum(means) / len(means) if len(means) == len(tasks) else None


@dataclass
class Table:
    """Everything shown about one model at one scale with one way of choosing the epoch."""

    model: str
    scale: str
    selection: str
    approximation: str | None
    metrics: dict[str, str]
    rows: list[Row]
    comparisons: list[Comparison] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def tasks(self) -> list[str]:
        return list(self.metrics)

    @property
    def title(self) -> str:
        """'minilm, pocket, epoch chosen on held-out data'"""
        chosen = {
            "held_out": "epoch chosen on held-out data",
            "paper": "epoch chosen on the evaluation set (optimistic)",
        }.get(self.selection, f"selection={self.selection}")
        approximate = " (approximate weights)" if self.approximation else ""
        return f"{self.model}{approximate}, {self.scale} scale, {chosen}"

    @property
    def caption(self) -> str:
        return caption(self.selection, self.approximation)


@dataclass(frozen=True)
class Text:
    """One cell as text, with the number it sorts by."""

    text: str
    value: float | None = None
    bold: bool = False


Grid = tuple[list[str], list[list[Text]]]


def build_tables(records: Iterable[RunRecord], reference: str = "lora", *, required: bool = False) -> list[Table]:
    """All tables. With ``required`` a reference that no run used is an error instead of no comparisons."""
    groups = build_groups(records)
    names = {name for group in groups for name in (group.first.method, group.first.label)}
    if required and reference not in names:
        raise ConfigError(unknown("reference", reference, names))
    sections: dict[tuple[str, ...], list[Group]] = defaultdict(list)
    for group in groups:
        first = group.first
        sections[first.model, first.scale, first.selection, first.approximation or ""].append(group)
    return [_table(key, members, reference) for key, members in sorted(sections.items())]


def score_grid(table: Table, which: str = "best") -> Grid:
    """The methods x tasks table as text; costs are in the ``best`` one."""
    header = ["Method", *(f"{task} ({metric})" for task, metric in table.metrics.items())]
    averaged = len(table.tasks) > 1
    if averaged:
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
        if averaged:
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
        rows.append(
            [
                Text(c.task),
                Text(c.label),
                Text(c.reference_label),
                Text(str(c.difference.n), c.difference.n),
                Text(format.difference(c.difference), c.difference.mean),
                Text(c.verdict + (f" ({c.remark})" if c.remark else "")),
                Text(format.p_value(c.difference.p), c.difference.p),
                Text(format.p_value(c.p_holm), c.p_holm),
                Text(f"{test.name}, {test.examples} examples" if test else format.NOTHING),
                Text(format.p_value(test.p if test else None), test.p if test else None),
                Text(format.p_value(c.examples_holm), c.examples_holm),
            ]
        )
    return header, rows


def _table(key: tuple[str, ...], groups: list[Group], reference: str) -> Table:
    model, scale, selection, approximation = key
    metrics: dict[str, list[str]] = defaultdict(list)
    for group in groups:
        if group.first.metric not in metrics[group.first.task]:
            metrics[group.first.task].append(group.first.metric)
    rows = sorted(_rows(groups), key=lambda row: (not _is_reference(row, reference), row.label.lower()))
    table = Table(
        model=model,
        scale=scale,
        selection=selection,
        approximation=approximation or None,
        metrics={task: " / ".join(names) for task, names in sorted(metrics.items())},
        rows=rows,
    )
    _mark_best(table)
    table.comparisons = _comparisons(table, reference)
    table.notes = table_notes([(row.label, row.groups) for row in rows])
    return table


def _rows(groups: list[Group]) -> list[Row]:
    """One row per method; a method with two settings on one task gets a row per setting, named by what differs."""
    families: dict[tuple[str, str, str], list[Group]] = defaultdict(list)
    for group in groups:
        families[group.first.method, group.first.label, group.first.variant or ""].append(group)
    labels = [label for _, label, _ in families]
    rows = []
    for (method, label, variant), members in families.items():
        name = f"{label} [{method}]" if labels.count(label) > 1 and label != method else label
        if variant and variant.lower() not in name.lower().replace("-", " ").split():
            name = f"{name} ({variant})"
        by_task: dict[str, list[Group]] = defaultdict(list)
        for group in members:
            by_task[group.first.task].append(group)
        keys = list(dict.fromkeys(key for same in by_task.values() for key in differing_keys(same)))
        short = short_names(keys)
        settings: dict[tuple[str, ...], dict[str, Group]] = defaultdict(dict)
        for group in members:
            settings[tuple(repr(group.settings.get(k, UNSET)) for k in keys)][group.first.task] = group
        for by in settings.values():
            values = next(iter(by.values())).settings
            suffix = [f"{short[k]}={shown(values[k]) if k in values else UNSET}" for k in keys]
            rows.append(Row(", ".join([name, *suffix]), method, by))
    return rows


def _is_reference(row: Row, reference: str) -> bool:
    first = next(iter(row.groups.values())).first
    return reference in (first.method, first.label)


def _mark_best(table: Table) -> None:
    """Bold the top mean of a column only if paired t-tests, Holm-corrected, put it above every other row."""
    for task in table.tasks:
        rows = [r for r in table.rows if task in r.groups and (s := r.groups[task].best) and s.mean == s.mean]
        if len(rows) < 2 or "/" in table.metrics[task]:
            continue
        sign = 1 if rows[0].groups[task].first.higher_is_better else -1
        top = max(rows, key=lambda r: sign * r.groups[task].best.mean)  # type: ignore[union-attr]
        others = [
            paired_difference(top.groups[task].scores(), row.groups[task].scores()) for row in rows if row is not top
        ]
        enough = all(d is not None and d.n >= MIN_SEEDS_FOR_BOLD and sign * d.mean > 0 for d in others)
        tests = holm([d.p if d else None for d in others])
        if enough and all(p is not None and p < SIGNIFICANT for p in tests):
            top.best_on.add(task)


def _comparisons(table: Table, reference: str) -> list[Comparison]:
    references = [row for row in table.rows if _is_reference(row, reference)]
    found = [
        compare(task, row.label, row.groups[task], ref.label, ref.groups[task])
        for task in table.tasks
        for ref in references
        for row in table.rows
        if row not in references and task in row.groups and task in ref.groups
    ]
    return corrected([c for c in found if c is not None])


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
