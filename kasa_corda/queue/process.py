"""The queue's side of a worker process."""

from __future__ import annotations

import contextlib
import json
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from dataclasses import asdict, dataclass
from typing import IO, Any, cast

from .attempt import Ended
from .jobs import Job
from .worker import end_children

CLOSING_SECONDS = 10.0
WORKER = (sys.executable, "-m", "kasa_corda.queue.worker")


@dataclass(frozen=True)
class Event:
    """What a worker said (``message``), or that it is gone (None)."""

    worker: Worker
    message: dict[str, Any] | None


class Worker:
    """One process in a session of its own, so that Ctrl-C in the terminal reaches it only through the queue."""

    def __init__(self, devices: tuple[str, ...], environment: dict[str, str], events: queue.Queue[Event]) -> None:
        self.devices = devices
        self.job: Job | None = None
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the worker
        self.process = subprocess.Popen(
            WORKER,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment,
            text=True,
            encoding="utf-8",
            start_new_session=True,
        )
        threading.Thread(target=self._listen, args=(events,), daemon=True).start()

    @property
    def pid(self) -> int:
        return self.process.pid

    def start(self, job: Job, accumulation: int | None) -> None:
        self.job = job
        asked = {"name": job.name, "directory": str(job.directory.path), "command": job.command}
        text = json.dumps({**asked, "config": asdict(job.config), "accumulation": accumulation}, default=_plain)
        with contextlib.suppress(BrokenPipeError):  # its end is an event of its own
            self._requests.write(text + "\n")
            self._requests.flush()

    def interrupt(self) -> None:
        """The run at hand saves and stops."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """At once, with everything it started."""
        end_children(self.pid)
        self.process.wait()

    def close(self) -> None:
        """End an idle worker."""
        with contextlib.suppress(BrokenPipeError):
            self._requests.close()
        try:
            self.process.wait(CLOSING_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()

    def end(self) -> str:
        """Why it is gone, in words; whatever it had started is ended too."""
        code = self.process.wait()
        end_children(self.pid)
        if code < 0:
            name = signal.Signals(-code).name
            hint = "; the system may have run out of memory" if -code == signal.SIGKILL else ""
            return f"the worker process was ended by {name}{hint}"
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        said = f": {lines[-1]}" if lines else ""
        return f"the worker process ended with exit code {code}{said}"

    @property
    def _requests(self) -> IO[str]:
        return cast(IO[str], self.process.stdin)

    def _listen(self, events: queue.Queue[Event]) -> None:
        for line in cast(IO[str], self.process.stdout):
            with contextlib.suppress(ValueError):
                events.put(Event(self, json.loads(line)))
        events.put(Event(self, None))


def ended(message: dict[str, Any]) -> Ended:
    return Ended(**message)


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else str(value)
