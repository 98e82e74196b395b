"""Run folders made on several machines, or in several sittings, as one.

Two directories of one run id are one run if their results agree. Where one is further than the other (finished before
interrupted, a further checkpoint before an earlier one), that one is taken. Two finished runs with different scores are
a conflict: nothing is written then.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import DataError, KasaCordaError
from .queue.states import tail
from .store import RunDirectory, find_runs, replace_directory

KEEP = ("first", "newest")
UNFINISHED = ".merging"
"""ends the name of a directory that is being copied"""
COMPARED = ("metric", "best", "last", "forgetting", "knowledge_average")
"""parts of result.json that must be equal; the others say when, where and how fast"""
RANK = {"finished": 4, "running": 2, "interrupted": 2, "failed": 1, "queued": 0}


@dataclass(frozen=True)
class Conflict:
    """Two finished runs of one id whose results differ."""

    first: Path
    second: Path
    difference: str
    """'best.test.accuracy: 0.8123 and 0.8119'"""

    def text(self) -> str:
        return f"{self.first} and {self.second} are the same run with different results ({self.difference})"


@dataclass
class Merge:
    """What is to be copied: the place below the target -> the directory it comes from."""

    target: Path
    copies: dict[Path, RunDirectory] = field(default_factory=dict)
    kept: int = 0
    """runs of the target that are at least as far as any other of their id"""
    equal: int = 0
    """further directories of runs that are there already"""
    conflicts: list[Conflict] = field(default_factory=list)

    def text(self) -> str:
        parts = [f"{len(self.copies)} runs to copy", f"{self.kept} there already", f"{self.equal} equal or less far"]
        return f"{self.target}: {', '.join(parts)}"


def merge(sources: Sequence[Path], target: Path, *, keep: str | None = None, dry_run: bool = False) -> Merge:
    """Copy every run of the sources that the target lacks, or has less far. Run again, it goes on where it was.

    KasaCordaError that names both directories of every conflict, before anything is written; with ``keep`` a conflict
    is settled: the target's, then the first source's, or the one whose status is newest. A ``dry_run`` copies nothing.
    """
    for source in sources:
        if not source.is_dir():
            raise DataError(f"there is no folder {str(source)!r}; give folders that hold run directories")
    planned = plan(sources, target, keep)
    if planned.conflicts:
        listed = "; ".join(conflict.text() for conflict in planned.conflicts[:5])
        more = len(planned.conflicts) - 5
        raise KasaCordaError(
            f"{listed}{f'; and {more} more' if more > 0 else ''}. {target} is unchanged;"
            " keep one by --keep first or --keep newest"
        )
    if not dry_run:
        for place, run in planned.copies.items():
            copy(run.path, target / place)
    return planned


def plan(sources: Sequence[Path], target: Path, keep: str | None = None) -> Merge:
    """What ``merge`` would do."""
    found = Merge(target)
    several: dict[Path, list[RunDirectory]] = {}
    for root in [target, *sources]:
        for run in complete_runs(root):
            several.setdefault(run.path.relative_to(root), []).append(run)
    for place, runs in sorted(several.items()):
        chosen = runs[0]
        for other in runs[1:]:
            if RANK.get(chosen.state()) == RANK.get(other.state()) == RANK["finished"]:
                difference = differing(chosen, other)
                if difference and keep is None:
                    found.conflicts.append(Conflict(chosen.path, other.path, difference))
                elif difference and keep == "newest" and _time(other) > _time(chosen):
                    chosen = other
            elif progress(other) > progress(chosen):
                chosen = other
        found.equal += len(runs) - 1
        if chosen.path == target / place:
            found.kept += 1
        else:
            found.copies[place] = chosen
    return found


def complete_runs(root: Path) -> Iterable[RunDirectory]:
    """The runs of a folder, without what an interrupted merge left."""
    if not root.is_dir():
        return []
    return [run for run in find_runs(root) if not any(part.endswith(UNFINISHED) for part in run.path.parts)]


def progress(run: RunDirectory) -> tuple[int, int, float]:
    """What orders two directories of one run: state, step of the checkpoint, time. The further one is greater."""
    return RANK.get(run.state(), 0), checkpoint_step(run), _time(run)


def checkpoint_step(run: RunDirectory) -> int:
    """Where a resumed run would go on."""
    try:
        stored = json.loads((run.path / "checkpoint" / "progress.json").read_text(encoding="utf-8"))
        return int(stored["step"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def differing(first: RunDirectory, second: RunDirectory) -> str | None:
    """The first thing in two results that should be equal and is not; None if there is none."""
    one, other = (_comparable(run.result() or {}) for run in (first, second))
    for key in sorted({*one, *other}):
        if one.get(key) != other.get(key) and not _both_nan(one.get(key), other.get(key)):
            return f"{key}: {one.get(key)} and {other.get(key)}"
    return None


def copy(source: Path, target: Path) -> None:
    """A whole directory, which appears under its name at once or not at all; the old one stays until then."""
    building = target.with_name(f".{target.name}{UNFINISHED}")
    shutil.rmtree(building, ignore_errors=True)
    building.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(source, building, ignore=_left_out)
    _flush(building)
    replace_directory(building, target)


def _left_out(folder: str, names: list[str]) -> set[str]:
    """Locks, unfinished files, and links, which could bring in any file of this machine."""
    unfinished = shutil.ignore_patterns(".lock", ".*.tmp")(folder, names)
    return {*unfinished, *(name for name in names if Path(folder, name).is_symlink())}


def _comparable(result: dict[str, Any]) -> dict[str, Any]:
    """Scores, and the moments they are of, by dotted key."""
    from .report.records import flatten

    return flatten({key: result[key] for key in COMPARED if key in result})


def _both_nan(one: Any, other: Any) -> bool:
    return isinstance(one, float) and isinstance(other, float) and one != one and other != other


def _time(run: RunDirectory) -> float:
    """When it last came further."""
    events = tail(run.path / "metrics.jsonl", 4096)
    times = [float((run.status() or {}).get("time") or 0.0), *(float(e.get("time") or 0.0) for e in events[-1:])]
    return max(times)


def _flush(folder: Path) -> None:
    """To disk, so that a renamed directory is never an empty one."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
