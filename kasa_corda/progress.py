"""Live progress: a bar in a terminal, one line every few seconds in a log file or under CI."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from tqdm import tqdm

from .escaping import printable

LINE_EVERY_SECONDS = 10.0


class Progress:
    """Counts steps of one phase and shows speed and time left. Only the main process shows anything."""

    def __init__(self, stream: TextIO | None = None, *, show: bool = True) -> None:
        self.stream = stream or sys.stderr
        self.show = show
        self.live = show and self.stream.isatty()

    def say(self, text: str) -> None:
        """One line that stays on screen."""
        if self.show:
            tqdm.write(printable(text), file=self.stream)
            self.stream.flush()

    @contextmanager
    def phase(self, title: str, total: int, unit: str = "step", start: int = 0) -> Iterator[Phase]:
        """Count ``total`` units; ``start`` of them were done before."""
        phase = Phase(self, title, total, unit, start)
        try:
            yield phase
        finally:
            phase.close()


class Phase:
    """One counted phase. ``advance`` after each unit."""

    def __init__(self, progress: Progress, title: str, total: int, unit: str, start: int) -> None:
        self.progress = progress
        self.title, self.total, self.unit, self.done, self.start = title, total, unit, start, start
        self.began = self.printed = time.monotonic()
        self.units = f"{unit}es" if unit.endswith("ch") else f"{unit}s"
        self.bar = (
            tqdm(
                total=total, initial=start, desc=title, unit=unit, file=progress.stream, leave=False, dynamic_ncols=True
            )
            if progress.live
            else None
        )

    def advance(self, count: int = 1, **shown: str) -> None:
        """Count ``count`` more units; ``shown`` are short values to show beside them (loss=0.31)."""
        self.done += count
        if self.bar is not None:
            if shown:
                self.bar.set_postfix(shown, refresh=False)
            self.bar.update(count)
        elif self.progress.show and time.monotonic() - self.printed >= LINE_EVERY_SECONDS:
            self.printed = time.monotonic()
            self.progress.say(self.line(shown))

    def line(self, shown: dict[str, str]) -> str:
        """What a log file gets: 'train 120/500 steps, loss 0.31, 12.3 steps/s, 0:31 left'."""
        speed = (self.done - self.start) / max(time.monotonic() - self.began, 1e-9)
        left = (self.total - self.done) / speed if speed else 0.0
        parts = [f"{self.title} {self.done}/{self.total} {self.units}", *(f"{k} {v}" for k, v in shown.items())]
        return ", ".join([*parts, f"{speed:.1f} {self.units}/s", f"{clock(left)} left"])

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()


def clock(seconds: float) -> str:
    """Seconds as m:ss or h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
