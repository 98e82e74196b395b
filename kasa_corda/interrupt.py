"""Ctrl-C and SIGTERM: finish the current step, save, stop. A second signal stops at once.

Slurm warns of a time limit by SIGUSR2, which submitit answers by queueing the job again and ending it. Where there is
such an answer, the run saves first.
"""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any

from .errors import KasaCordaError


class Interrupted(KasaCordaError):
    """The user or the scheduler asked the run to stop; it can be resumed."""

    exit_code = 130


WARNING = getattr(signal, "SIGUSR2", None)
WARNED_SECONDS = 60.0
"""that a run has to reach the end of a step; a long evaluation is then left, and the last checkpoint must do"""


class StopRequest:
    """Context manager; ``requested`` turns true after the first signal."""

    def __init__(self, say: Any) -> None:
        self.requested = False
        self.say = say
        self.previous: dict[int, Any] = {}
        self.deadline: threading.Timer | None = None
        """runs once there was a warning"""

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self.previous[number] = signal.signal(number, self._handle)
            if WARNING is not None and callable(signal.getsignal(WARNING)):
                self.previous[WARNING] = signal.signal(WARNING, self._warned)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)
        if self.deadline is not None:
            self.deadline.cancel()
            os.kill(os.getpid(), WARNING)  # type: ignore[arg-type]

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        self.say(f"{signal.Signals(number).name}: stopping after this step and saving; again to stop at once")

    def _warned(self, number: int, frame: FrameType | None) -> None:
        if self.deadline is not None:
            self.previous[number](number, frame)
            return
        self.requested = True
        self.deadline = threading.Timer(WARNED_SECONDS, os.kill, (os.getpid(), number))
        self.deadline.daemon = True
        self.deadline.start()
        self.say(f"{signal.Signals(number).name}: saving after this step, to go on in the next job")
