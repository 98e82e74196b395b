"""What a way of confining programs must offer, and the run of one program, which is the same for all."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import Any, ClassVar

from .guest import seccomp
from .limits import Limits
from .result import Outcome, Program, SandboxError
from .view import ENVIRONMENT

READY = b"ready\n"
START = "import sys; sys.path[0] = {folder!r}; from guest.main import main; import json; main(json.loads(sys.argv[1]))"
TRIES = 3
"""starts of a sandbox before its failure counts as one"""


class Sandbox(ABC):
    """One way of confining programs. Instances hold no state: threads share them."""

    name: ClassVar[str]
    layers: ClassVar[str]
    """what stands between a program and this machine, in words"""
    environment: ClassVar[dict[str, str] | None] = ENVIRONMENT
    """of the command that starts it; None is this process's own"""

    @abstractmethod
    def missing(self) -> str | None:
        """What this machine lacks for it, as far as can be seen without trying; None if nothing."""

    @abstractmethod
    def start(self, limits: Limits) -> Any:
        """Context manager: gives (command, working folder), and cleans up."""

    def run(self, program: Program, limits: Limits) -> Outcome:
        """Judge one program. SandboxError if there is no verdict because the sandbox can't start."""
        job = json.dumps({**asdict(program), "seconds": limits.wall_seconds - 1}).encode()
        for tries_left in reversed(range(TRIES)):
            began = time.monotonic()
            with self.start(limits) as (command, folder):
                out, said, late = _communicate(command, folder, self.environment, job, limits.wall_seconds)
            seconds = time.monotonic() - began
            if out.startswith(READY):
                return _outcome(out[len(READY) :], late, seconds)
            if not tries_left:
                reason = said.decode(errors="replace").strip().splitlines()
                raise SandboxError(f"sandbox {self.name} can't start: {reason[-1] if reason else 'no reason given'}")
        raise AssertionError

    def settings(self, limits: dict[str, tuple[int, int]], **own: Any) -> dict[str, Any]:
        """What ``guest.main`` is told; ``own`` replaces defaults."""
        return {
            "view": None,  # namespaces to make and files to show there
            "user": None,  # number of the user to become
            "landlock": None,  # (readable, writable) paths
            "limits": limits,
            "seccomp": seccomp.supported(),
            "path": [],  # folders with packages, behind the standard library
            "environment": ENVIRONMENT,
            "parent": os.getpid(),  # whose end ends the sandbox
            **own,
        }


def python_command(python: str, folder: str, settings: dict[str, Any]) -> list[str]:
    """Start ``guest.main`` of ``folder`` without site packages."""
    return [python, "-S", "-s", "-c", START.format(folder=folder), json.dumps(settings)]


@contextmanager
def nothing_to_clean(command: list[str], folder: str = "/") -> Iterator[tuple[list[str], str]]:
    yield command, folder


def _communicate(
    command: list[str], folder: str, environment: dict[str, str] | None, job: bytes, seconds: float
) -> tuple[bytes, bytes, bool]:
    """(stdout, stderr, whether it was too slow). The whole process group is gone afterwards."""
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    late = False
    try:
        out, said = process.communicate(job, timeout=seconds)
    except subprocess.TimeoutExpired:
        late = True
        _kill_group(process.pid)
        out, said = process.communicate()
    except BaseException:
        _kill_group(process.pid)
        process.communicate()
        raise
    _kill_group(process.pid)
    return out, said, late


def _kill_group(leader: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def _outcome(verdict: bytes, late: bool, seconds: float) -> Outcome:
    try:
        told = json.loads(verdict)
    except ValueError:  # the judge was killed with the program, by time or by the machine
        return Outcome(False, "timeout" if late else "killed", seconds=seconds)
    passed = told["passed"] is True
    return Outcome(passed, "" if passed else told["kind"], told["detail"], seconds)
