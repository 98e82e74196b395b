"""Start inside or on the way into the sandbox: confine, fork the candidate, judge, write the verdict to stdout.

stdin holds the job as one JSON text, stdout gets two lines: ``ready``, then the verdict. A problem of the sandbox
itself is a text on stderr without ``ready``.
"""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import sys

from . import landlock, namespaces, plus, seccomp  # noqa: F401 - tests import plus when its file is out of sight
from .candidate import Candidate
from .judge import judge
from .wire import Pipe

TYPE_CHECKING = False  # the module typing alone takes as long to import as all of this
if TYPE_CHECKING:
    from typing import Any, NoReturn

PR_SET_PDEATHSIG = 1
ALL_FILES = 1 << 20
ENDED = {signal.SIGXCPU: "timeout", signal.SIGKILL: "killed", signal.SIGXFSZ: "file size", signal.SIGSYS: "refused"}


def main(settings: dict[str, Any]) -> NoReturn:
    """``settings``: see ``process.settings``."""
    del sys.path[0]
    sys.path += settings["path"]
    try:
        _die_with(settings["parent"])
        if settings["view"] is not None:
            namespaces.enter(settings["view"])
            _become_first_process()
        elif settings["user"] is not None:
            os.setgroups([])
            os.setresgid(*[settings["user"]] * 3)
            os.setresuid(*[settings["user"]] * 3)
            _die_with(settings["parent"])
        namespaces.drop_capabilities()
        out, verdict = confined(settings)
    except OSError as error:
        sys.stderr.write(error.strerror or str(error))
        sys.stderr.flush()
        os._exit(3)
    os.write(out, json.dumps(verdict).encode())
    os._exit(0)


def _die_with(parent: int | None) -> None:
    """Be killed when the process that started this one ends; ``parent`` is None where it can't be seen."""
    if parent is not None:
        namespaces.libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(3)


def _become_first_process() -> None:
    """Go on as process 1 of the new namespace: when it ends, the kernel ends everything in there.

    The process that stays outside waits for it, and if it is killed, takes it along.
    """
    outside_lives, held = os.pipe()
    first = os.fork()
    if first:
        for stream in (0, 1, outside_lives):
            os.close(stream)
        os._exit(os.waitstatus_to_exitcode(os.waitpid(first, 0)[1]) & 0xFF)
    os.close(held)
    namespaces.libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if select.select([outside_lives], [], [], 0)[0]:
        os._exit(3)
    os.close(outside_lives)


def confined(settings: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Fork the candidate, then read the job and judge. Returns where to write the verdict, and the verdict."""
    to_candidate, to_judge = os.pipe(), os.pipe()
    namespaces.set_dumpable(False)
    candidate = os.fork()
    if candidate == 0:
        _be_candidate(to_candidate[0], to_judge[1], settings)
    os.close(to_candidate[0])
    os.close(to_judge[1])
    out = os.dup(1)
    os.write(out, b"ready\n")
    # the candidate's process has no copy of the job: it was forked before the job was read
    with open(0, "rb", closefd=False) as stream:
        job = json.load(stream)
    _silence()
    memory = 2 * settings["limits"]["RLIMIT_AS"][1]
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    verdict = judge(job, Pipe(to_judge[0], to_candidate[1]))
    if verdict.pop("gone") and verdict["kind"] == "ended":
        verdict["kind"] = _ending(candidate)
    else:
        os.kill(candidate, signal.SIGKILL)
        os.waitpid(candidate, 0)
    return out, verdict


def _ending(candidate: int) -> str:
    """How the candidate's process came to its end; it is ended if it only closed its pipes."""
    for _ in range(100):
        found, status = os.waitpid(candidate, os.WNOHANG)
        if found:
            code = os.waitstatus_to_exitcode(status)
            return "exit" if code >= 0 else ENDED.get(signal.Signals(-code), signal.Signals(-code).name)
        select.select([], [], [], 0.01)
    os.kill(candidate, signal.SIGKILL)
    os.waitpid(candidate, 0)
    return "exit"


def _silence() -> None:
    """Nothing to read, and nobody listens."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)
    os.close(nothing)


def _be_candidate(reads: int, writes: int, settings: dict[str, Any]) -> NoReturn:
    """Serve calls until the judge goes. Every other file descriptor is closed before foreign code runs."""
    try:
        _silence()
        low, high = sorted((reads, writes))
        for first, behind in ((3, low), (low + 1, high), (high + 1, ALL_FILES)):
            os.closerange(first, behind)
        os.environ.clear()
        os.environ.update(settings["environment"])
        if settings["landlock"]:
            landlock.restrict(*settings["landlock"])
        for name, (soft, hard) in settings["limits"].items():
            resource.setrlimit(getattr(resource, name), (soft, hard))
        if settings["seccomp"] and not seccomp.refuse_dangerous_calls():
            os._exit(97)
        Candidate(Pipe(reads, writes)).serve()
    finally:
        os._exit(96)
