"""What the queue shows: a live table in a terminal, a line per event elsewhere."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, TextIO

from ..progress import clock
from .jobs import Done, Job
from .states import counts, progress_of

EVERY_SECONDS = 1.0
MOST_ROWS = 20


class Screen:
    """Told of every start and end; ``refresh`` redraws."""

    def __init__(self, workers: int, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stdout
        self.workers = workers
        self.began = time.monotonic()
        self.states: Counter[str] = Counter()
        self.running: dict[Job, float] = {}
        self.waiting_seconds = 0.0
        """estimated, of jobs that have not started"""
        self.waiting = 0
        self.ratio = _Ratio()
        self.live: Any = None
        self._drawn = 0.0

    def __enter__(self) -> Screen:
        if self.stream.isatty():
            from rich.console import Console
            from rich.live import Live

            self.live = Live(console=Console(file=self.stream), auto_refresh=False, transient=True)
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.live is not None:
            self.live.stop()

    def say(self, text: str) -> None:
        if self.live is not None:
            self.live.console.print(text, markup=False, highlight=False)
        else:
            print(text, file=self.stream, flush=True)

    def planned(self, waiting: Sequence[Job]) -> None:
        """What has not started yet."""
        self.waiting = len(waiting)
        self.waiting_seconds = sum(job.seconds or 0.0 for job in waiting)

    def started(self, job: Job, again: str = "") -> None:
        self.running[job] = time.monotonic()
        if self.live is None or again:
            self.say(f"{self._position()} {job.name}{f' again: {again}' if again else ''}: {job.directory.path}")

    def ended(self, done: Done, *, final: bool = True) -> None:
        """One attempt is over; ``final`` if there is no other."""
        self.running.pop(done.job, None)
        if not final:
            return
        self.states[done.state] += 1
        if done.state == "finished":
            self.ratio.add(done.job.seconds, done.seconds)
        error = f": {done.error}" if done.error else ""
        if done.state != "finished" or self.live is None:
            self.say(f"{self._position()} {done.job.name} {done.state} after {clock(done.seconds)}{error}")

    def refresh(self) -> None:
        if self.live is not None and time.monotonic() - self._drawn >= EVERY_SECONDS:
            self._drawn = time.monotonic()
            self.live.update(self.table(), refresh=True)

    def table(self) -> Any:
        """One line per running job, and a last line with counts and the expected time left."""
        from rich.box import SIMPLE_HEAD
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        table = Table(box=SIMPLE_HEAD)
        for title in ("running", "progress"):
            table.add_column(title, overflow="ellipsis", no_wrap=True)
        for title in ("elapsed", "left"):
            table.add_column(title, justify="right", no_wrap=True)
        now = time.monotonic()
        for job, since in list(self.running.items())[:MOST_ROWS]:
            progress = progress_of(job.directory)
            left = "" if progress.left is None else clock(progress.left)
            table.add_row(Text(job.name), Text(progress.text()), clock(now - since), left)
        return Group(table, Text(self.summary()))

    def summary(self) -> str:
        """'12 finished, 1 failed, 4 running, 23 waiting; 5:10 so far, about 12:30 left'."""
        states = [*self.states.elements(), *["running"] * len(self.running)]
        told = [counts(states)] if states else []
        told += [f"{self.waiting} waiting"] if self.waiting else []
        left = self.seconds_left()
        about = f", about {clock(left)} left" if left else ""
        return f"{', '.join(told)}; {clock(time.monotonic() - self.began)} so far{about}"

    def seconds_left(self) -> float:
        """Estimated seconds of what waits and what runs, corrected by how the finished runs' estimates turned out."""
        now = time.monotonic()
        running = [max(0.0, (job.seconds or 0.0) * self.ratio.value - (now - t)) for job, t in self.running.items()]
        whole = self.waiting_seconds * self.ratio.value + sum(running)
        return max([whole / max(1, self.workers), *running])

    def _position(self) -> str:
        over = sum(self.states.values())
        return f"[{over}/{over + len(self.running) + self.waiting}]"


class _Ratio:
    """Seconds that finished runs took, over their estimates."""

    def __init__(self) -> None:
        self.estimated = self.taken = 0.0

    def add(self, estimated: float | None, taken: float) -> None:
        if estimated:
            self.estimated += estimated
            self.taken += taken

    @property
    def value(self) -> float:
        return self.taken / self.estimated if self.estimated else 1.0
