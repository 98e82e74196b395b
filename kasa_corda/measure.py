"""Seconds per phase and peak memory of one run."""

from __future__ import annotations

import contextlib
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

PHASES = ("load", "data", "prepare", "adapt", "fit", "evaluate")


class Stopwatch:
    """Seconds per named phase."""

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.phases: dict[str, float] = dict.fromkeys(PHASES, 0.0)

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.phases[phase] += time.perf_counter() - start

    def total(self) -> dict[str, float]:
        return {**self.phases, "total": time.perf_counter() - self.began}


def reset_peak_memory() -> None:
    """Start counting anew, so that a later run of the same process does not report an earlier one's peak.

    On Linux the process's own high-water mark is reset (proc(5), clear_refs); elsewhere it can't be.
    """
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory() -> dict[str, int | None]:
    """Highest memory in bytes since the reset: resident in this process, and allocated on its GPU."""
    device = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None
    return {"host": _host_peak(), "device": device}


def _host_peak() -> int:
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
