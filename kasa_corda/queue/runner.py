"""``run``: every job, one after another in this process or side by side in workers."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from ..interrupt import Interrupted
from .attempt import twice
from .backlog import Backlog
from .devices import gpus
from .jobs import Done, Job, More
from .pool import Pool
from .screen import Screen
from .shared import sharing
from .worker import stop


def run(
    jobs: Iterable[Job],
    *,
    devices: Sequence[str] | None = None,
    per_device: int = 1,
    more: More | None = None,
    screen: Screen | None = None,
) -> list[Done]:
    """Make every run, in the order of ``ordered``, and return how each ended.

    ``devices``: GPUs as in CUDA_VISIBLE_DEVICES, None is all of this machine, empty is its processor; ``per_device``
    runs share each. A single run at a time on the processor is made in this process, otherwise each place has a worker
    process. A failure is recorded in the run's directory and stops nothing; where another attempt may do better
    (``causes``) there is one. ``more`` is told of finished jobs and may give further ones. Interrupted after Ctrl-C or
    SIGTERM, once the running ones have saved; a second signal kills them.
    """
    found = gpus() if devices is None else list(devices)
    with sharing():
        if not found and per_device == 1:
            return run_here(jobs, more)
        places = max(1, len(found)) * per_device
        with screen or Screen(places) as shown:
            return Pool(Backlog(shown.say, more), found, per_device, shown).run(jobs)


def run_here(jobs: Iterable[Job], more: More | None = None) -> list[Done]:
    """One after another in this process, each with its own progress bars."""
    backlog = Backlog(lambda text: print(text, flush=True), more)
    with terminable():
        backlog.add(jobs)
        while backlog.waiting or (backlog.refill(), backlog.waiting)[1]:
            job = backlog.waiting.pop(0)
            print(f"== {job.name}: {job.path}", flush=True)
            began = time.monotonic()
            ended, again = twice(job.config, job.directory, job.command)
            backlog.over(Done(job, ended.state, ended.error, again, time.monotonic() - began))
            if ended.state == "interrupted":
                raise Interrupted(ended.error or "stopped")
            if ended.error:
                print(f"error: {ended.error}", file=sys.stderr, flush=True)
            backlog.refill()
    return backlog.done


@contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM is an interruption, as Ctrl-C is."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
