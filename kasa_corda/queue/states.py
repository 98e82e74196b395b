"""Where the runs of a folder stand, read from their files alone: for the table on screen and scripts/status.py."""

from __future__ import annotations

import json
import math
import os
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import KasaCordaError
from ..store import STATES, RunDirectory

TAIL_BYTES = 65536
"""of metrics.jsonl that are read"""
SIGNS = ("status.json", "metrics.jsonl", "log.txt", "predictions", "preparation")
"""files and folders that a living run changes"""


@dataclass(frozen=True)
class Progress:
    """How far a running run is. Times in seconds since the epoch, or seconds."""

    step: int = 0
    total: int | None = None
    left: float | None = None
    """expected seconds of training that are left"""
    heartbeat: float = 0.0
    """when it last wrote anything"""
    note: str = ""
    """what it does while it does not train"""

    def text(self) -> str:
        if not self.step:
            return self.note or "starting"
        of = f"/{self.total}" if self.total else ""
        return f"step {self.step}{of}" + (f", {self.note}" if self.note else "")


@dataclass(frozen=True)
class Standing:
    """One run directory."""

    directory: RunDirectory
    state: str
    error: str | None
    progress: Progress | None
    """of a running run"""

    @property
    def name(self) -> str:
        return "/".join(self.directory.path.parts[-4:])


def standings(root: Path) -> list[Standing]:
    """Every run below a folder that has begun, sorted by path; what can't be read counts as damaged."""
    found = []
    for file in sorted(root.rglob("status.json")):
        directory = RunDirectory(file.parent)
        try:
            state = directory.state()
            error = (directory.status() or {}).get("error")
            running = progress_of(directory) if state == "running" else None
        except (KasaCordaError, KeyError, TypeError, AttributeError) as problem:
            state, error, running = "damaged", str(problem), None
        found.append(Standing(directory, state, error, running))
    return found


def counts(states: Sequence[str]) -> str:
    """'3 finished, 1 running', in the order of STATES."""
    found = Counter(states)
    names = [*STATES, *sorted(set(found) - set(STATES))]
    return ", ".join(f"{found[name]} {name}" for name in names if found[name]) or "no runs"


def progress_of(directory: RunDirectory, config: dict[str, Any] | None = None) -> Progress:
    """How far a run is, from the end of its metrics.jsonl and its config."""
    trainer = ((config or directory.config() or {}).get("trainer")) or {}
    events = [event for event in tail(directory.path / "metrics.jsonl") if isinstance(event.get("step"), int)]
    beat = heartbeat(directory.path)
    if not events:
        return Progress(heartbeat=beat, note=last_line(directory.path / "log.txt"))
    last = events[-1]
    total = total_steps(trainer, last)
    left = None
    trains = [event for event in events if event.get("event") == "train"]
    if total and len(trains) > 1 and trains[-1]["step"] > trains[0]["step"]:
        pace = (trains[-1]["time"] - trains[0]["time"]) / (trains[-1]["step"] - trains[0]["step"])
        left = max(0.0, (total - last["step"]) * max(pace, 0.0))
    note = "evaluating" if total and last["step"] >= total else ""
    return Progress(last["step"], total, left, beat, note)


def total_steps(trainer: dict[str, Any], event: dict[str, Any]) -> int | None:
    """Steps of the whole run: by max_steps, else by what an epoch turned out to have."""
    if trainer.get("max_steps"):
        return int(trainer["max_steps"])
    if not event.get("epoch") or not trainer.get("epochs"):
        return None
    per_epoch = round(event["step"] / event["epoch"])
    steps = max(1, math.ceil(trainer["epochs"] * per_epoch))
    return min(steps, int(trainer.get("steps_cap") or steps))


def heartbeat(path: Path) -> float:
    """When a run last wrote one of its files."""
    times = [0.0]
    for name in SIGNS:
        with suppress(OSError):
            times.append((path / name).stat().st_mtime)
    return max(times)


def began(directory: RunDirectory) -> bool:
    """Whether this attempt has made a training step, or has nothing left to prepare."""
    status = directory.status() or {}
    events = tail(directory.path / "metrics.jsonl", 4096)
    return bool(events) and events[-1].get("time", 0.0) >= status.get("time", math.inf)


def tail(path: Path, size: int = TAIL_BYTES) -> list[dict[str, Any]]:
    """The complete JSON lines at the end of a file."""
    rows = []
    for line in _end(path, size).splitlines():
        with suppress(ValueError, RecursionError):
            row = json.loads(line)
            if isinstance(row, dict):
                rows.append(row)
    return rows


def last_line(path: Path) -> str:
    """The last line of a log, of a progress bar what it shows now."""
    lines = [line.strip() for line in _end(path, 4096).replace("\r", "\n").splitlines()]
    return next((line for line in reversed(lines) if line and not line.startswith("==")), "")


def _end(path: Path, size: int) -> str:
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - size))
            return file.read().decode("utf-8", errors="replace")
    except OSError:
        return ""


def status_text(root: Path, now: float | None = None) -> str:
    """Counts, what runs and how far it is, what failed and why, and which running run has been silent longest."""
    from ..progress import clock

    now = time.time() if now is None else now
    found = standings(root)
    lines = [f"{root}: {counts([run.state for run in found])}"]
    running = [(run, run.progress) for run in found if run.progress is not None]
    for run, progress in running:
        left = f", {clock(progress.left)} left" if progress.left is not None else ""
        silent = f", last sign {clock(max(0.0, now - progress.heartbeat))} ago"
        lines.append(f"  running      {run.name}  {progress.text()}{left}{silent}")
    for state in ("failed", "damaged", "interrupted"):
        lines += [f"  {state:12} {run.name}  {_short(run.error)}".rstrip() for run in found if run.state == state]
    if running:
        oldest, progress = min(running, key=lambda pair: pair[1].heartbeat)
        lines.append(f"oldest heartbeat: {oldest.name}, {clock(max(0.0, now - progress.heartbeat))} ago")
    return "\n".join(lines)


def _short(text: str | None) -> str:
    first = (text or "").strip().split("\n")[0]
    return first if len(first) <= 200 else f"{first[:197]}..."
