"""What became of a cell's run, read from disk once it is over: a queue asks after every cell of a thousand."""

from __future__ import annotations

from dataclasses import dataclass

from ..evaluation.units import higher_is_better
from .cells import Cell

OVER = ("finished", "failed")


@dataclass(frozen=True)
class CellOutcome:
    """State of a run, its score on the selection split if it is finished, its error if it failed."""

    state: str
    score: float | None = None
    """at the selected epoch, by the metric that selected it; None is a score that is no number"""
    higher_is_better: bool = True
    error: str | None = None


_read: dict[tuple[str, int, int], CellOutcome] = {}
"""(run directory, time and inode of its status.json) -> outcome, of runs that are over"""


def outcome(cell: Cell) -> CellOutcome:
    """The outcome of a cell that has a run directory; a run that is started again is read again."""
    assert cell.directory is not None
    path = cell.directory.path
    try:
        status = (path / "status.json").stat()
    except OSError:
        return CellOutcome("queued")
    key = str(path), status.st_mtime_ns, status.st_ino
    if key not in _read:
        found = _outcome(cell)
        if found.state not in OVER:
            return found
        _read[key] = found
    return _read[key]


def _outcome(cell: Cell) -> CellOutcome:
    assert cell.directory is not None
    state = cell.directory.state()
    if state == "failed":
        return CellOutcome(state, error=(cell.directory.status() or {}).get("error"))
    if state != "finished" or not (result := cell.directory.result()):
        return CellOutcome(state)
    metric = cell.plain["task"].get("select_by") or result["metric"]
    value = result["best"]["select"].get(metric)
    upwards = result.get("higher_is_better", True) if metric == result["metric"] else higher_is_better(metric)
    return CellOutcome(state, None if value is None else float(value), bool(upwards))
