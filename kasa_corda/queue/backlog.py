"""The jobs that are still to run, in order, and what became of the others."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from .attempt import record_failure
from .fetch import fetched
from .jobs import Done, Job, More
from .order import ordered

REFILL_SECONDS = 5.0
"""``more`` is not asked more often than this while there is enough to do"""


@dataclass
class Backlog:
    """Jobs are taken from ``waiting``, in its order; ``done`` are over for good."""

    say: Callable[[str], None]
    more: More | None = None
    waiting: list[Job] = field(default_factory=list)
    done: list[Done] = field(default_factory=list)
    told: int = 0
    """how many of ``done`` the callback knows of"""
    _asked: float = 0.0
    _known: set[Path] = field(default_factory=set)
    _downloads: dict[str, str | None] = field(default_factory=dict)

    def add(self, jobs: Iterable[Job]) -> list[Done]:
        """Take jobs, each run directory once, after their downloads; those whose downloads failed have failed."""
        new = []
        for job in jobs:
            if job.path not in self._known:
                self._known.add(job.path)
                new.append(job)
        errors = fetched(new, self.say, self._downloads)
        failed = []
        for job in new:
            if error := errors.get(str(job.path)):
                record_failure(job, error)
                failed.append(Done(job, "failed", error))
        self.done += failed
        self.waiting = ordered([*self.waiting, *(job for job in new if str(job.path) not in errors)])
        return failed

    def put_back(self, job: Job) -> None:
        """It will be tried again, in its place of the order."""
        self.waiting = ordered([job, *self.waiting])

    def over(self, done: Done) -> None:
        self.done.append(done)

    def refill(self, enough: int = 1) -> list[Done]:
        """Ask for the jobs that the latest ends made possible: at once if fewer than ``enough`` wait. As ``add``."""
        if self.more is None or self.told == len(self.done):
            return []
        if len(self.waiting) >= enough and time.monotonic() - self._asked < REFILL_SECONDS:
            return []
        new, self.told = self.done[self.told :], len(self.done)
        self._asked = time.monotonic()
        return self.add(self.more(new))
