"""Methods x tasks: one table per model, scale and way of choosing the epoch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ..errors import ConfigError, unknown
from .compare import SIGNIFICANT, Comparison, compare, corrected
from .groups import Group, build_groups, differing_keys, short_names, shown
from .notes import caption, table_notes
from .records import RunRecord
from .statistics import holm, paired_difference
from .tuning import Choice, origin

MIN_SEEDS_FOR_BOLD = 3
UNSET = "unset"


@dataclass(eq=False)
class Row:
    """One method (in one setting) over the tasks; ``best_on`` are the tasks it wins beyond noise."""

    name: str
    """the method, without settings"""
    label: str
    method: str
    groups: dict[str, Group]
    best_on: set[str] = field(default_factory=set)
    choices: list[Choice] = field(default_factory=list)
    """how settings of it were chosen, where several were tried (``--tuned``)"""
    origin: tuple[str, ...] = ()
    """'tuned lr' or 'paper lr', where a search was made"""

    def meets(self, other: Row) -> bool:
        """Whether the two are compared: rows at the paper's rates not with rows at tuned ones."""
        return not (self.origin and other.origin) or self.origin == other.origin

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
        rates = " Rows at paper lr are runs at a published rate, which no search chose." if self.two_rates else ""
        return caption(self.selection, self.approximation, self.tuned_keys) + rates

    @property
    def two_rates(self) -> bool:
        """Whether methods have rows at a tuned and at a published learning rate."""
        return any("paper lr" in row.origin for row in self.rows)

    @property
    def tuned_keys(self) -> list[str]:
        """Short names of the keys that were chosen."""
        return list(
            dict.fromkeys(n for row in self.rows for choice in row.choices for n in choice.values(choice.chosen))
        )

    @property
    def runs(self) -> list[RunRecord]:
        """Finished runs, once for every column they stand in."""
        return [run for row in self.rows for group in row.groups.values() for run in group.finished]

    @property
    def averaged(self) -> bool:
        """Whether a mean over the columns makes sense: several tasks, not several metrics of the same runs."""
        return len(self.tasks) > 1 and len({run.path for run in self.runs}) == len(self.runs)

    @property
    def last_is_best(self) -> bool:
        """Whether every run was at its best at its end, so that a second table would repeat the first."""
        return bool(self.runs) and all(run.best == run.last for run in self.runs)


def build_tables(
    records: Iterable[RunRecord],
    references: Sequence[str] = ("lora",),
    *,
    required: bool = False,
    choices: Sequence[Choice] = (),
) -> list[Table]:
    """All tables. With ``required`` a reference that no run used is an error instead of no comparisons.

    A reference is a label or, if no row is called that, a method.
    """
    groups = [group for group in build_groups(records) if group.first.tested]
    names = {name for group in groups for name in (group.first.method, group.first.label)}
    for reference in references:
        if required and reference not in names:
            raise ConfigError(unknown("reference", reference, names))
    sections: dict[tuple[str, ...], list[Group]] = defaultdict(list)
    for group in groups:
        first = group.first
        sections[first.model, first.scale, first.selection, first.approximation or ""].append(group)
    return [_table(key, members, references, choices) for key, members in sorted(sections.items())]


def _table(key: tuple[str, ...], groups: list[Group], references: Sequence[str], choices: Sequence[Choice]) -> Table:
    model, scale, selection, approximation = key
    rows = _rows(groups, choices)
    named = [_called(rows, reference) for reference in references]
    first = [row for found in named for row in found]
    metrics: dict[str, list[str]] = defaultdict(list)
    for group in groups:
        if group.first.metric not in metrics[group.first.task]:
            metrics[group.first.task].append(group.first.metric)
    rows.sort(key=lambda row: (first.index(row) if row in first else len(first), row.label.lower()))
    table = Table(
        model=model,
        scale=scale,
        selection=selection,
        approximation=approximation or None,
        metrics={task: " / ".join(names) for task, names in sorted(metrics.items())},
        rows=rows,
    )
    _mark_best(table)
    table.comparisons = _comparisons(table, named)
    tuned = {key for row in rows for choice in row.choices for key in choice.keys}
    table.notes = table_notes([(row.label, row.groups) for row in rows], tuned)
    return table


def _rows(groups: list[Group], choices: Sequence[Choice]) -> list[Row]:
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
            told = (origin(group, key, choices) or repr(group.settings.get(key, UNSET)) for key in keys)
            settings[tuple(told)][group.first.task] = group
        for by in settings.values():
            values = next(iter(by.values())).settings
            made = [choice for choice in choices if any(map(choice.covers, by.values()))]
            chosen = {tuple(choice.values(choice.chosen).items()) for choice in made}
            agreed = dict(chosen.pop()) if len(chosen) == 1 else {}
            first = next(iter(by.values()))
            tuned = dict.fromkeys(key for choice in choices for key in choice.keys)
            marked = {key: mark for key in (*keys, *tuned) if (mark := origin(first, key, choices))}
            differing = [k for k in keys if k not in marked or len({repr(g.settings.get(k)) for g in by.values()}) == 1]
            suffix = agreed | {short[k]: shown(values[k]) if k in values else UNSET for k in differing}
            label = ", ".join([name, *marked.values(), *(f"{key}={value}" for key, value in suffix.items())])
            rows.append(Row(name, label, method, by, choices=made, origin=tuple(marked.values())))
    return rows


def _called(rows: Sequence[Row], reference: str) -> list[Row]:
    """Rows with that label, else rows of that method."""
    first = [(row, next(iter(row.groups.values())).first) for row in rows]
    labelled = [row for row, run in first if run.label == reference]
    return labelled or [row for row, run in first if run.method == reference]


def _mark_best(table: Table) -> None:
    """Bold the top mean of a column only if paired t-tests, Holm-corrected, put it above every other row."""
    for task in table.tasks:
        rows = [r for r in table.rows if task in r.groups and (s := r.groups[task].best) and s.mean == s.mean]
        if len(rows) < 2 or "/" in table.metrics[task]:
            continue
        sign = 1 if rows[0].groups[task].first.higher_is_better else -1
        top = max(rows, key=lambda r: sign * r.groups[task].best.mean)  # type: ignore[union-attr]
        others = [
            paired_difference(top.groups[task].scores(), row.groups[task].scores())
            for row in rows
            if row is not top and (row.name != top.name or row.meets(top))
        ]
        enough = all(d is not None and d.n >= MIN_SEEDS_FOR_BOLD and sign * d.mean > 0 for d in others)
        tests = holm([d.p if d else None for d in others])
        if enough and all(p is not None and p < SIGNIFICANT for p in tests):
            top.best_on.add(task)


def _comparisons(table: Table, references: Sequence[Sequence[Row]]) -> list[Comparison]:
    """With every reference in turn, each corrected for itself; two references are compared once."""
    comparisons: list[Comparison] = []
    for index, rows in enumerate(references):
        later = [row for others in references[index:] for row in others]
        found = [
            compare(task, row.label, row.groups[task], ref.label, ref.groups[task])
            for task in table.tasks
            for ref in rows
            for row in table.rows
            if row not in later and task in row.groups and task in ref.groups and row.meets(ref)
        ]
        comparisons += corrected([c for c in found if c is not None])
    return comparisons
