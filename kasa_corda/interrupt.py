"""Ctrl-C and SIGTERM: finish the current step, save, stop. A second signal stops at once."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

from .errors import KasaCordaError


class Interrupted(KasaCordaError):
    """The user or the scheduler asked the run to stop; it can be resumed."""

    exit_code = 130


class StopRequest:
    """Context manager; ``requested`` turns true after the first signal."""

    def __init__(self, say: Any) -> None:
        self.requested = False
        self.say = say
        self.previous: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self.previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        self.say(f"{signal.Signals(number).name}: stopping after this step and saving; again to stop at once")
