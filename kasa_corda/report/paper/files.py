"""The report as CSV in full precision: claims, printed numbers beside ours, and every run (scores as fractions)."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

from ...escaping import csv_cell
from .material import RATES, Material

CLAIMS = [
    "id",
    "paper",
    "form",
    "lr",
    "state",
    "part",
    "part_state",
    "kind",
    "ours",
    "reference",
    "model",
    "tasks",
    "published_ours",
    "published_reference",
    "difference",
    "low",
    "high",
    "p",
    "p_holm",
    "effect",
    "seeds",
    "seeds_needed",
    "ours_runs",
    "reference_runs",
    "sentence",
]
CELLS = [
    "paper",
    "table",
    "kind",
    "model",
    "task",
    "metric",
    "method",
    "setting",
    "value",
    "std",
    "source",
    "lr",
    "mean",
    "our_std",
    "low",
    "high",
    "n",
    "difference",
    "inside",
    "runs",
    "deviations",
]
RUNS = [
    "run_id",
    "state",
    "task",
    "model",
    "method",
    "label",
    "variant",
    "seed",
    "selection",
    "scale",
    "learning_rate",
    "metric",
    "score",
    "last_score",
    "select_metric",
    "select_score",
    "trainable",
    "fit_seconds",
    "total_seconds",
    "host_bytes",
    "device_bytes",
    "error",
    "command",
]


def claims(material: Material) -> str:
    """One row per part of a claim and learning rate."""
    rows: list[list[Any]] = []
    for lr in RATES:
        for verdict in material.verdicts.get(lr, []):
            claim = verdict.claim
            start = [claim.id, claim.paper, verdict.form, lr, verdict.state]
            if not verdict.parts:
                rows.append([*start, *[None] * (len(CLAIMS) - len(start) - 1), verdict.sentence])
            for number, found in enumerate(verdict.parts, 1):
                part = found.part
                reference = part.reference.name if part.reference else None
                about = [part.kind, part.ours.name, reference, part.model, " ".join(part.tasks), *part.published]
                numbers = [found.difference, found.low, found.high, found.p, found.p_holm, found.effect, found.seeds]
                runs = [found.seeds_needed, " ".join(found.ours_runs), " ".join(found.reference_runs)]
                rows.append([*start, number, found.state, *about, *numbers, *runs, verdict.sentence])
    return _text(CLAIMS, rows)


def cells(material: Material) -> str:
    """One row per printed number and learning rate, in printed units."""
    found = {lr: {r.cell: r for r in material.results.get(lr, [])} for lr in RATES}
    rows = []
    for cell in material.cells:
        start = [cell.paper, cell.table, cell.kind, cell.model, cell.task, cell.metric, cell.method, cell.setting]
        for lr in RATES:
            r = found[lr].get(cell)
            ours: list[Any] = [None] * 9
            if r is not None:
                ours = [r.mean, r.std, r.low, r.high, r.n, r.difference, r.inside, " ".join(r.run_ids)]
                ours.append("; ".join(r.deviations))
            rows.append([*start, cell.value, cell.std, cell.source, lr, *ours])
    return _text(CELLS, rows)


def runs(material: Material) -> str:
    """One row per run, unfinished ones included. Paths are left out: a copied run store gives the same file."""
    rows = []
    for r in material.records:
        provenance = r.result.get("provenance")
        command = provenance.get("command") if isinstance(provenance, dict) else None
        about = [r.run_id, r.state, r.task, r.model, r.method, r.label, r.variant, r.seed, r.selection, r.scale]
        scores = [r.settings.get("trainer.learning_rate"), r.metric, r.score, r.last_score, r.select_metric]
        scores.append(r.select_score)
        costs = [r.number("parameters", "trainable"), r.number("seconds", "fit"), r.number("seconds", "total")]
        costs += [r.number("peak_memory_bytes", "host"), r.number("peak_memory_bytes", "device")]
        rows.append([*about, *scores, *costs, r.error, command])
    return _text(RUNS, sorted(rows, key=lambda row: [str(part) for part in (*row[2:5], row[7], row[0])]))


def _text(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(["" if value is None else csv_cell(value) for value in row] for row in rows)
    return buffer.getvalue()
