"""What the runs of a table forgot: ``forgetting`` of result.json, over seeds, with a paired test over the examples."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from . import format
from .compare import ExampleTest, file_scores, paired_examples
from .grids import Grid, Text
from .groups import Group
from .records import RunRecord
from .statistics import Summary, holm, summarise
from .tables import Table

FORGETTING_CAPTION = (
    "World knowledge before and after training: the base model, and the state that the table above shows. Scores x 100"
    " (perplexities as they are), mean ± sample standard deviation over seeds; kept is after / before of every seed, in"
    " per cent (before / after for perplexities). The example test compares the same examples before and after (exact"
    " McNemar on right or wrong, otherwise a paired bootstrap), corrected by Holm over this table. The average is"
    " CorDA's: the mean of the scores after training on world knowledge and on the run's own task."
)


@dataclass(frozen=True)
class Forgotten:
    """One metric of one forgotten task, for one method and the task it was trained on."""

    label: str
    task: str
    measured: str
    before: Summary | None
    after: Summary
    kept: Summary | None = None
    """None where the score before was 0"""
    test: ExampleTest | None = None
    metric: str = ""


def forgotten(table: Table) -> list[Forgotten]:
    """Everything the table's runs forgot, in its order; empty if no run asked for it."""
    found: list[Forgotten] = []
    for row in table.rows:
        seen: set[Any] = set()
        for group in row.groups.values():
            runs = [run for run in group.finished if isinstance(run.result.get("forgetting"), dict)]
            if runs and runs[0].path not in seen:  # several metrics of the same runs are columns of their own
                seen.add(runs[0].path)
                found += _of_group(row.label, group, runs)
    return found


def _of_group(label: str, group: Group, runs: list[RunRecord]) -> Iterator[Forgotten]:
    trained = str(runs[0].config["task"]["name"])
    for name, first in runs[0].result["forgetting"].items():
        main = first["metric"]
        for metric in sorted(first["metrics"], key=lambda metric: metric != main):
            values = [run.result["forgetting"][name]["metrics"][metric] for run in runs]
            kept = [value["kept"] for value in values if value["kept"] is not None]
            yield Forgotten(
                label,
                trained,
                format.heading(name, metric),
                summarise([value["before"] for value in values]),
                summarise([value["after"] for value in values]),
                summarise(kept) if kept else None,
                paired_examples([_both(run, name, metric) for run in runs]),
                metric,
            )
    averages = [value for run in runs if (value := run.number("knowledge_average")) is not None]
    if averages:
        yield Forgotten(label, trained, "average with the task", None, summarise(averages))


def _both(run: RunRecord, name: str, metric: str) -> dict[str, tuple[float, float]]:
    """Example -> its score after and before; empty where the run kept no predictions."""
    folder = run.path / "predictions"
    after = file_scores(folder / f"{name}.jsonl", metric)
    before = file_scores(folder / "before" / f"{name}.jsonl", metric)
    return {key: (value, before[key]) for key, value in after.items() if key in before}


def forgetting_grid(table: Table) -> Grid | None:
    """The forgetting table as text; None if no run asked for it."""
    rows = forgotten(table)
    if not rows:
        return None
    corrected = holm([row.test.p if row.test else None for row in rows])
    header = ["Method", "Trained on", "Measured on", "Before", "After", "Kept, %", "Example test", "p (Holm)"]
    return header, [
        [
            Text(row.label),
            Text(row.task),
            Text(row.measured),
            *(_score(summary, row.metric) for summary in (row.before, row.after)),
            Text(format.spread(row.kept), row.kept.mean) if row.kept else Text(format.NOTHING),
            Text(f"{row.test.name}, {row.test.examples} examples" if row.test else format.NOTHING),
            Text(format.p_value(p), p),
        ]
        for row, p in zip(rows, corrected, strict=True)
    ]


def _score(summary: Summary | None, metric: str) -> Text:
    return Text(format.NOTHING) if summary is None else Text(format.spread(summary, metric), summary.mean)
