"""Numbers and states in words."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

from .. import format
from ..groups import Group
from ..records import RunRecord
from ..statistics import Summary
from .layout import Cell

STATES = {
    "reproduced": "reproduced",
    "direction": "reproduced in direction",
    "not_reproduced": "not reproduced",
    "undecidable": "not decidable",
    "missing": "no runs yet",
}
HOLDS = {"held_out": "epoch chosen on held-out data", "paper": "best epoch on the evaluation set itself"}


def state(name: str) -> str:
    return STATES.get(name, name.replace("_", " "))


def rate(value: float | None) -> str:
    """'1e-3', '3.16e-4'"""
    if value is None:
        return "none"
    digits, _, power = f"{value:.2e}".partition("e")
    return f"{float(digits):g}e{int(power)}"


def signed(value: float, decimals: int = 2) -> str:
    return f"{value:+.{decimals}f}" if math.isfinite(value) else "nan"


def seeds(values: Iterable[int]) -> str:
    """'0-4, 7'"""
    spans: list[list[int]] = []
    for value in sorted(set(values)):
        if spans and value == spans[-1][1] + 1:
            spans[-1][1] = value
        else:
            spans.append([value, value])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in spans)


def score_cell(group: Group, how: str) -> Cell:
    """'64.30 ± 0.52', with its seeds, interval, protocol and runs as a footnote. ``how``: which learning rate."""
    summary = group.best
    assert summary is not None
    first = group.first
    unfinished = ", ".join(f"{count} {name}" for name, count in group.states().items())
    shown = format.missing(first.metric) if math.isnan(summary.mean) else format.spread(summary, first.metric)
    runs = tuple(run.run_id for run in group.finished)
    note = ". ".join(
        part
        for part in (
            f"{first.method} on {first.task}: n = {summary.n} seeds ({seeds(group.seeds)})",
            interval(summary, first.metric),
            protocol(first, how),
            f"also {unfinished}" if unfinished else "",
            f"runs {' '.join(runs)}",
        )
        if part
    )
    value = None if math.isnan(summary.mean) else summary.mean
    hint = f"n = {summary.n}, {how}" + (f"; {unfinished}" if unfinished else "")
    return Cell(shown, value, note=f"{note}.", runs=runs, path=f"best.test.{tested_key(first)}", hint=hint)


def tested_key(record: RunRecord) -> str:
    return f"{record.split}_{record.metric}" if record.split else record.metric


def interval(summary: Summary, metric: str) -> str:
    if summary.low is None or math.isnan(summary.mean):
        return ""
    low, high = (format.percent(v, metric=metric) for v in (summary.low, summary.high))
    return f"95 % interval over seeds {low} to {high}"


def protocol(record: RunRecord, how: str) -> str:
    return f"{record.metric}, {HOLDS.get(record.selection, record.selection)}, {how}"


def slug(*parts: object) -> str:
    """A name for the page's own links."""
    return re.sub(r"[^a-z0-9]+", "-", " ".join(map(str, parts)).lower()).strip("-")


def listed(values: Sequence[str], most: int = 8) -> str:
    """'a, b, c and 4 more'"""
    rest = len(values) - most
    return ", ".join(values[:most]) + (f" and {rest} more" if rest > 0 else "")
