"""What one program may use."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Beyond any of these a program is ended and has failed."""

    cpu_seconds: float = 3.0
    """of the program's process. Correct programs need milliseconds; unlike time on the wall it does not depend on what
    else the machine does"""
    wall_factor: float = 4.0
    """seconds on the wall per second of CPU allowed; two more are given for the start"""
    memory_bytes: int = 1 << 30
    """address space"""
    file_bytes: int = 16 << 20
    """of one file, and of the private /tmp where that is a file system of its own"""
    files: int = 512
    """files and folders in the private /tmp"""
    open_files: int = 64
    threads: int = 32

    @property
    def wall_seconds(self) -> float:
        return self.cpu_seconds * self.wall_factor + 2

    def rlimits(self, counts_threads: bool = True) -> dict[str, tuple[int, int]]:
        """RLIMIT name -> (soft, hard). ``counts_threads``: whether the user has no processes beside the sandbox's."""
        cpu = math.ceil(self.cpu_seconds)
        limits = {
            "RLIMIT_AS": (self.memory_bytes,) * 2,
            "RLIMIT_CPU": (cpu, cpu + 1),  # the first sends a signal that tells, the second kills
            "RLIMIT_FSIZE": (self.file_bytes,) * 2,
            "RLIMIT_NOFILE": (self.open_files,) * 2,
            "RLIMIT_CORE": (0, 0),
        }
        return limits | ({"RLIMIT_NPROC": (self.threads,) * 2} if counts_threads else {})
