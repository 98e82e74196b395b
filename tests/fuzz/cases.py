"""One attempt: damaged input is read, and what comes of it is told apart."""

from __future__ import annotations

import contextlib
import io
import signal
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kasa_corda.errors import KasaCordaError

READ, REFUSED, BUG = "read", "refused", "bug"
SECONDS = 20
"""of processor time that an attempt may take"""
WAITING = 5
"""times that long may pass meanwhile: other processes may have the cores"""
LONGEST = 2000
"""characters of a message that still counts as a sentence"""


@dataclass(frozen=True)
class Attempt:
    """What is read, and the run directory, if any, that must not hold half a result after a refusal."""

    about: str
    """the damage: what was done to which file"""
    read: Callable[[], Any]
    run: Path | None = None


@dataclass(frozen=True)
class Outcome:
    """READ (harmless, or worked around), REFUSED with one sentence, or BUG with its story."""

    kind: str
    about: str
    what: str
    story: str = ""


class TooLong(BaseException):
    """A hang. No ``except Exception`` on the way keeps it."""


def tried(kind: str, attempt: Attempt, seconds: int = SECONDS) -> Outcome:
    """Make the attempt in this process."""
    screen = io.StringIO()

    def told(what: str, story: str) -> Outcome:
        return Outcome(kind, attempt.about, what, story)

    try:
        with limited(seconds), contextlib.redirect_stdout(screen), contextlib.redirect_stderr(screen):
            attempt.read()
    except KasaCordaError as error:
        return refusal(str(error), attempt, told)
    except SystemExit as stop:
        if stop.code not in (0, 1, 2):
            return told(BUG, f"exit code {stop.code}")
        return told(READ if stop.code == 0 else REFUSED, "")
    except TooLong:
        return told(BUG, f"not done after {seconds} s")
    except BaseException:
        return told(BUG, traceback.format_exc())
    if "Traceback (most recent" in screen.getvalue():
        return told(BUG, screen.getvalue()[-4000:])
    return told(READ, "")


def refusal(message: str, attempt: Attempt, told: Callable[[str, str], Outcome]) -> Outcome:
    """Whether a refusal is what it should be: one sentence, no crash behind it, and no result."""
    if not message.strip() or "\n" in message.strip() or len(message) > LONGEST:
        return told(BUG, f"not a sentence: {message[:3000]!r}")
    if attempt.run is not None:
        if (attempt.run / "error.log").exists():
            return told(BUG, f"a crash behind it: {message}\n{(attempt.run / 'error.log').read_text()[-3000:]}")
        if (attempt.run / "result.json").is_file():
            return told(BUG, f"result.json was written in spite of: {message}")
    return told(REFUSED, message)


@contextmanager
def limited(seconds: int) -> Iterator[None]:
    """Raise TooLong in this thread after some seconds of processor time, or WAITING times as many on the clock."""

    def stop(*_: Any) -> None:
        raise TooLong

    before = {kind: signal.signal(kind, stop) for kind in (signal.SIGPROF, signal.SIGALRM)}
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, WAITING * seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        for kind, handler in before.items():
            signal.signal(kind, handler)
