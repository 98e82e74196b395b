"""A process that makes one run after another: ``python -m kasa_corda.queue.worker``.

A line of JSON on stdin is a job, a line on stdout is how it ended; what the run itself prints goes to its log.txt. At
the end of stdin the run at hand is interrupted and the process ends, so none outlives the queue that started it.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

LOG = "log.txt"
GRACE_SECONDS = 120.0
"""that a run has to save and stop once the queue is gone"""


def main() -> int:
    requests, replies = private_streams()
    signal.signal(signal.SIGTERM, stop)
    jobs: queue.Queue[dict[str, Any] | None] = queue.Queue()
    threading.Thread(target=read, args=(requests, jobs), daemon=True).start()
    try:
        prepare_imports()
        say(replies, {"ready": True})
        while (job := jobs.get()) is not None:
            say(replies, asdict(perform(job)))
    except KeyboardInterrupt:
        return 130
    return 0


def perform(job: dict[str, Any]) -> Any:
    """Make one run, with everything it prints in its own folder."""
    from ..config.validate import typed
    from ..store import RunDirectory
    from .attempt import attempt

    directory = RunDirectory(Path(job["directory"]))
    directory.path.mkdir(parents=True, exist_ok=True)
    with (directory.path / LOG).open("a", encoding="utf-8") as log:
        log.write(f"== {time.strftime('%Y-%m-%d %H:%M:%S')} {job['name']}, process {os.getpid()}\n")
        log.flush()
        point_output_at(log.fileno())
        try:
            return attempt(typed(job["config"]), directory, job["command"], job["accumulation"])
        finally:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            point_output_at(nowhere)
            os.close(nowhere)


def private_streams() -> tuple[IO[str], IO[str]]:
    """stdin and stdout under numbers that no child inherits; whoever reads or prints gets nothing or stderr."""
    requests = os.fdopen(os.dup(0), encoding="utf-8")
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return requests, replies


def point_output_at(file: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(file, 1)
    os.dup2(file, 2)


def read(requests: IO[str], jobs: queue.Queue[dict[str, Any] | None]) -> None:
    """Pass jobs on; when the queue is gone, stop this process, by force if it does not listen."""
    for line in requests:
        jobs.put(json.loads(line))
    jobs.put(None)
    if threading.main_thread().is_alive():
        os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    end_children(os.getpid())


def end_children(leader: int) -> None:
    """Kill a worker and all processes it started."""
    try:
        if os.getpgid(leader) == leader:  # a group of its own
            os.killpg(leader, signal.SIGKILL)
        else:
            os.kill(leader, signal.SIGKILL)
    except ProcessLookupError:
        pass


def stop(number: int, frame: Any) -> None:
    raise KeyboardInterrupt


def say(replies: IO[str], message: dict[str, Any]) -> None:
    try:
        replies.write(json.dumps(message) + "\n")
        replies.flush()
    except BrokenPipeError:  # the queue is gone; stdin will say so too
        pass


def prepare_imports() -> None:
    """Before the first job, so that its own time is not spent on it."""
    from .. import pipeline  # noqa: F401


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # threads that still wait would keep it alive
