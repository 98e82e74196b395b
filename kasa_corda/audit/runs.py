"""The audit on our own runs: every score of a run is possible by construction, so every finding is a false alarm."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from decimal import ROUND_DOWN, ROUND_HALF_EVEN, ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..paper.published import Cell
from .auditing import audit
from .finding import Finding
from .sets import EvaluationSet, read_sets, set_of, short

if TYPE_CHECKING:
    from ..report.groups import Group
    from ..report.records import RunRecord

DECIMALS = (1, 2, 4, 6)
"""how runs are printed for the audit, in percent; and in full as a fraction"""
WAYS = (ROUND_HALF_UP, ROUND_HALF_EVEN, ROUND_DOWN)


@dataclass
class RunAudit:
    """What was audited of our own runs, and what was wrongly found."""

    runs: int = 0
    settings: int = 0
    """settings with two or more seeds, whose mean and standard deviation were audited"""
    numbers: int = 0
    """printed numbers audited: every score in every way of printing it"""
    false_alarms: list[Finding] = field(default_factory=list)
    """all findings but notices"""

    @property
    def rate(self) -> float:
        """Findings for each printed number."""
        return len(self.false_alarms) / self.numbers if self.numbers else math.nan

    def add(self, cells: Sequence[Cell], sets: dict[str, EvaluationSet]) -> None:
        self.numbers += len(cells)
        self.false_alarms += [finding for finding in audit(cells, sets) if finding.severity != "notice"]


def audit_runs(roots: Iterable[Path]) -> RunAudit:
    """Audit every finished run below these folders, and every ``runs.csv`` of a report."""
    from ..report.groups import build_groups
    from ..report.records import read_runs

    found = RunAudit()
    for root in roots:
        records = [record for record in read_runs([root]) if record.state == "finished"]
        for record in records:
            for cells, sets in _of_run(record):
                found.add(cells, sets)
        found.runs += len(records)
        for group in build_groups(records):
            if group.n > 1 and (cells_and_sets := _of_seeds(group)):
                found.settings += 1
                found.add(*cells_and_sets)
        for path in sorted(root.rglob("runs.csv")):
            with path.open(encoding="utf-8", newline="") as file:
                rows = [row for row in csv.DictReader(file) if row.get("state") == "finished"]
            found.runs += len(rows)
            for cells in _of_table(path, rows):
                found.add(cells, read_sets())
    return found


def printings(value: float) -> Iterator[tuple[str, str]]:
    """How papers print a score: (name of the way, text), in full and rounded or cut at a few decimals."""
    yield "in full", repr(value)
    exact = Decimal(value) * 100
    for decimals in DECIMALS:
        for way in WAYS:
            yield f"% {decimals} {way}", str(exact.quantize(Decimal(1).scaleb(-decimals), rounding=way))


def _metric(name: str, way: str) -> str:
    """The metric as a table would head it."""
    return f"{name} %" if way.startswith("%") else name


def _of_run(record: RunRecord) -> Iterator[tuple[list[Cell], dict[str, EvaluationSet]]]:
    """The scores of a run, one audit for each evaluated split and state."""
    counts: dict[str, int] = record.result.get("data", {}).get("counts", {})
    best, last = record.best, record.last
    if best is None or any(name.startswith("test_") for name in counts):  # a score over two test splits: MNLI's
        return
    states = [("best", "select", best.select), ("best", "test", best.test), ("last", "test", last.test if last else {})]
    for state, part, scores in states:
        for split in (part, *(name for name in counts if part == "test" and name in record.further_tasks)):
            prefix = "" if split == part else f"{split}_"
            own = {
                key.removeprefix(prefix): value
                for key, value in scores.items()
                if key.startswith(prefix) and (prefix or not any(key.startswith(f"{t}_") for t in record.further_tasks))
            }
            if counts.get(split) and own:
                known = _set(record, split, counts[split], state)
                yield _cells(record, known.task, state, own), {short(known.task): known}


def _cells(record: RunRecord, task: str, state: str, scores: dict[str, float]) -> list[Cell]:
    samples = record.settings.get("task.samples") or 1
    preset = isinstance(record.settings.get("method.target_modules"), str)
    counted = record.result.get("parameters", {}).get("adapter") if preset else None
    rank = record.settings.get("method.rank")
    return [
        Cell(
            "ours",
            f"{record.run_id} {state} {way}",
            record.model,
            task,
            _metric(metric, way),
            record.method,
            counted or None,
            text,
            "",
            str(record.path),
            setting=f"single run; n_samples={samples}; rank={rank}; epoch 0",
        )
        for metric, value in scores.items()
        if math.isfinite(value)
        for way, text in printings(value)
    ]


def _set(record: RunRecord, split: str, size: int, state: str) -> EvaluationSet:
    """The evaluated examples: class counts from the run's own predictions, or from the task's known set."""
    task = record.task if split in ("test", "select") else split
    known = set_of(task, read_sets())
    blank = EvaluationSet(task, size, known.metrics if known else ())
    if split == "select":
        return blank
    if split == "test" and (classes := _classes(record, state)) and sum(classes) == size:
        return replace(blank, negative=classes[0], positive=classes[1])
    return known if known and known.size == size else blank


def _classes(record: RunRecord, state: str) -> tuple[int, int] | None:
    """Examples of class 0 and of class 1 among the predicted ones; None if the task has other classes."""
    path = record.path / "predictions" / ("test.jsonl" if state == "best" else "test_last.jsonl")
    if record.config.get("task", {}).get("kind") != "classification" or not path.is_file():
        return None
    with path.open(encoding="utf-8") as file:
        references = [json.loads(line).get("reference") for line in file]
    return (references.count(0), references.count(1)) if set(references) <= {0, 1} else None


def _of_seeds(group: Group) -> tuple[list[Cell], dict[str, EvaluationSet]] | None:
    """Mean and standard deviation over the seeds of one setting."""
    first, summary = group.first, group.best
    size = first.result.get("data", {}).get("counts", {}).get("test")
    if summary is None or summary.std is None or not size or not math.isfinite(summary.mean):
        return None
    samples = first.settings.get("task.samples") or 1
    cells = [
        _seed_cell(way, first.model, first.task, first.metric, first.method, mean, std, summary.n, samples)
        for (way, mean), (_, std) in zip(printings(summary.mean), printings(summary.std), strict=True)
    ]
    return cells, {short(first.task): EvaluationSet(first.task, size)}


def _seed_cell(
    way: str, model: str, task: str, metric: str, method: str, mean: str, std: str, seeds: int, samples: Any
) -> Cell:
    setting = f"{seeds} seeds; n_samples={samples}"
    return Cell("ours", f"seeds {way}", model, task, _metric(metric, way), method, None, mean, std, "", setting=setting)


def _of_table(path: Path, rows: Sequence[dict[str, str]]) -> Iterator[list[Cell]]:
    """The runs of a report's ``runs.csv`` on sets whose class counts are known (those are evaluated whole)."""
    for row in rows:
        known = set_of(row["task"], read_sets())
        if known is None or known.positive is None or row["metric"] not in known.metrics:
            continue
        for state, text in (("best", row["score"]), ("last", row["last_score"])):
            yield [
                Cell(
                    "ours",
                    f"{row['run_id']} {state} {way}",
                    row["model"],
                    row["task"],
                    _metric(row["metric"], way),
                    row["method"],
                    None,
                    shown,
                    "",
                    str(path),
                    setting="single run; epoch 0",
                )
                for way, shown in printings(float(text))
            ]
