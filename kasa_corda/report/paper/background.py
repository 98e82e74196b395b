"""Chapters that a sceptic reads: deviations, audit, cost, what is missing, and where everything comes from."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

from .. import format
from ..records import RunRecord, flatten
from . import words
from .layout import Bullets, Cell, Chapter, Code, Grid, Heading, columns, number, text
from .material import RATES, Material
from .printed import KINDS

MOST_ROWS = 300


def deviations(material: Material) -> Chapter:
    """How our settings differ from the published ones, in plain words; equal sentences are told once."""
    found = Chapter("deviations", "How our settings differ from the papers'")
    by_sentence: dict[str, list[str]] = defaultdict(list)
    for lr in RATES:
        for result in material.results.get(lr, []):
            cell = result.cell
            if result.n:
                for sentence in result.deviations:
                    by_sentence[sentence].append(f"{cell.table}, {cell.method} on {cell.model} {cell.task} ({lr} lr)")
    if material.form == "pocket":
        found.say(
            "The pocket form changes the models (MiniLM, SmolLM2), the lengths of training and the sizes of the data in"
            " every cell. It asks whether a claim holds where everyone can check it, not whether a printed number does."
        )
    if not by_sentence:
        found.say("No printed number has runs of ours, so there is nothing to set beside it.")
        return found
    rows = [
        [Cell(sentence), Cell(str(len(cells)), len(cells)), Cell(words.listed(list(dict.fromkeys(cells)), 6))]
        for sentence, cells in sorted(by_sentence.items(), key=lambda item: (-len(item[1]), item[0]))
    ]
    found.say("Every cell of the papers' tables also has its own deviations in its footnote.")
    found.blocks.append(_cut(Grid("deviations-all", "Deviations", columns("Deviation", "Cells", "Where"), rows)))
    return found


def audit(material: Material) -> Chapter:
    """What is wrong or odd with the printed numbers, before any run of ours."""
    from ...audit.finding import SEVERITIES, name_of

    found = Chapter("audit", "Audit of the published numbers")
    found.say(
        f"{len(material.cells)} printed numbers were checked against the size of their evaluation sets, their own"
        " averages, the models' shapes and each other."
    )
    counts = Counter(finding.severity for finding in material.findings)
    found.blocks.append(Bullets(tuple(f"{name}: {counts[name]}. {SEVERITIES[name]}." for name in SEVERITIES)))
    signs = {"impossible": "error", "inconsistent": "error", "unstated": "warning"}
    rows = [
        [
            Cell(finding.severity, state=signs.get(finding.severity, "")),
            Cell(finding.check),
            Cell(finding.sentence),
            Cell(words.listed([name_of(cell) for cell in finding.cells], 4)),
        ]
        for finding in sorted(material.findings, key=lambda f: list(SEVERITIES).index(f.severity))
    ]
    if rows:
        names = columns("Severity", "Check", "Finding", "Printed numbers")
        found.blocks.append(_cut(Grid("audit-findings", "Findings", names, rows)))
    return found


def cost(material: Material) -> Chapter:
    """Hours on which device, and by model, task and method."""
    found = Chapter("cost", "What it cost")
    finished = [record for record in material.records if record.state == "finished"]
    devices: dict[str, list[RunRecord]] = defaultdict(list)
    for record in finished:
        devices[str(_part(record, "provenance").get("device") or "unknown device")].append(record)
    rows = []
    for device, runs in sorted(devices.items()):
        total = sum(run.number("seconds", "total") or 0.0 for run in runs)
        fit = sum(run.number("seconds", "fit") or 0.0 for run in runs)
        processes = sum((run.number("seconds", "total") or 0.0) * _processes(run) for run in runs)
        peak = max((run.number("peak_memory_bytes", "device") or 0.0 for run in runs), default=0.0)
        rows.append(
            [
                Cell(device, heading=True),
                Cell(f"{len(runs):,}", len(runs)),
                *(Cell(f"{value / 3600:.2f}", value) for value in (total, fit, processes)),
                Cell(format.memory(peak) if peak else "-", peak or None),
            ]
        )
    names = columns("Device", "Runs", "Hours", "of it training", "Device-hours", "Peak device memory")
    found.blocks.append(Grid("cost-devices", "By device", names, rows))
    found.blocks.append(Grid("cost-methods", "By model, task and method", columns(*_COST), _by_method(finished)))
    found.say(
        "What the cost model predicts for these runs, and its error: python scripts/plan.py suite=NAME.", soft=True
    )
    return found


_COST = ("Model", "Task", "Method", "Runs", "Hours", "Median seconds", "Peak device memory")


def _by_method(finished: list[RunRecord]) -> list[list[Cell]]:
    groups: dict[tuple[str, str, str], list[RunRecord]] = defaultdict(list)
    for record in finished:
        groups[record.model, record.task, record.label].append(record)
    rows = []
    for key, runs in sorted(groups.items()):
        seconds = sorted(run.number("seconds", "total") or 0.0 for run in runs)
        peaks = [v for run in runs if (v := run.number("peak_memory_bytes", "device"))]
        rows.append(
            [
                *(Cell(part) for part in key),
                Cell(f"{len(runs):,}", len(runs)),
                Cell(f"{sum(seconds) / 3600:.2f}", sum(seconds)),
                Cell(f"{seconds[len(seconds) // 2]:.1f}", seconds[len(seconds) // 2]),
                Cell(format.memory(max(peaks)), max(peaks)) if peaks else Cell("-"),
            ]
        )
    return rows


def missing(material: Material) -> Chapter:
    """Runs without a result and why, and claims that lack runs."""
    found = Chapter("missing", "Failed and missing")
    unfinished = [r for r in material.records if r.state != "finished"]
    counts = ", ".join(f"{count:,} {state}" for state, count in material.counts().items())
    found.say(f"{len(material.records):,} runs: {counts}.")
    for lr in RATES:
        lacking = [v for v in material.verdicts.get(lr, []) if v.state == "missing"]
        if lacking:
            found.blocks.append(Heading(f"missing-{lr}", f"Claims that lack runs, {lr} learning rate"))
            found.blocks.append(Bullets(tuple(f"{v.claim.sentence}: {v.sentence}" for v in lacking)))
    if unfinished:
        rows = [
            [
                Cell(r.state, state="error" if r.state in ("failed", "damaged") else "warning"),
                text(r.task),
                text(r.model),
                text(r.label),
                number(r.seed, str(r.seed)),
                text(r.error),
                text(r.run_id),
            ]
            for r in sorted(unfinished, key=lambda r: (r.state, r.task, r.model, r.label, r.seed or 0, r.run_id))
        ]
        names = columns("State", "Task", "Model", "Method", "Seed", "Error", "Run")
        grid = Grid("missing-runs", "Runs without a result", names, rows)
        found.blocks.append(_cut(grid, "runs.csv"))
    return found


def provenance(material: Material) -> Chapter:
    """Versions, devices, commits, commands, fingerprints of models and data: each value with its number of runs."""
    found = Chapter("provenance", "Provenance")
    seen: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    dirty = 0
    for record in material.records:
        if record.state != "finished":
            continue
        origin = flatten(_part(record, "provenance"))
        dirty += bool(origin.get("git.dirty"))
        for key, value in origin.items():
            if key in ("device", "git.sha", "python") or key.startswith("versions."):
                seen["code and machine", key.removeprefix("versions.")][str(value)] += 1
        source = _part(record, "model_source")
        seen["weights", record.model][f"{source.get('fingerprint')} ({source.get('source')})"] += 1
        data = _part(record, "data")
        seen["data", record.task][f"{data.get('fingerprint')} ({data.get('source')})"] += 1
    rows = [
        [Cell(kind), Cell(name, heading=True), Cell(value), Cell(f"{count:,}", count)]
        for (kind, name), values in sorted(seen.items())
        for value, count in sorted(values.items())
    ]
    if dirty:
        found.say(f"{dirty:,} runs come from a checkout with uncommitted changes.")
    found.say("A name with several rows means that runs of this report differ in it.")
    grid = Grid("provenance-all", "Where the results come from", columns("Kind", "Name", "Value", "Runs"), rows)
    found.blocks.append(_cut(grid, "runs.csv"))
    found.blocks.append(Heading("provenance-commands", "Commands"))
    found.say("Every run's own command is in runs.csv; one of each model, task and method:", soft=True)
    commands: dict[tuple[str, str, str], str] = {}
    for r in material.records:
        command = _part(r, "provenance").get("command")
        if r.state == "finished" and command:
            commands.setdefault((r.model, r.task, r.label), str(command))
    shown = [commands[key] for key in sorted(commands)]
    found.blocks.append(Code("\n".join(dict.fromkeys(shown[:MOST_ROWS]))))
    sources = ", ".join(
        f"{c:,} of {KINDS.get(k, k)}" for k, c in sorted(Counter(c.kind for c in material.cells).items())
    )
    if sources:
        found.say(f"Printed numbers: {sources}.")
    return found


def _cut(grid: Grid, elsewhere: str = "cells.csv") -> Grid:
    rest = len(grid.rows) - MOST_ROWS
    if rest > 0:
        grid.rows = grid.rows[:MOST_ROWS]
        grid.left_out = f"{rest:,} more rows are in {elsewhere}."
    return grid


def _part(record: RunRecord, name: str) -> dict[str, Any]:
    value = record.result.get(name)
    return value if isinstance(value, dict) else {}


def _processes(record: RunRecord) -> float:
    value = _part(record, "provenance").get("processes")
    return float(value) if isinstance(value, int | float) else 1.0
