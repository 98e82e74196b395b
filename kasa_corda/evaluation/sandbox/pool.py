"""Many programs at a time: threads that each wait for one sandbox process."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from .base import Sandbox
from .limits import Limits
from .result import Outcome, Program


def usable_cores() -> int:
    """Processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_all(
    sandbox: Sandbox,
    programs: Sequence[Program],
    limits: Limits | None = None,
    workers: int | None = None,
    finished: Callable[[int], None] = lambda count: None,
) -> list[Outcome]:
    """The outcome of every program, in order; equal programs run once.

    ``workers`` is the number of programs at a time (default: one per core), ``finished`` is told after each how many
    of ``programs`` are done by it. SandboxError as soon as a sandbox can't start; nothing is left running.
    """
    allowed = limits or Limits()
    same: dict[str, list[int]] = {}
    for index, program in enumerate(programs):
        same.setdefault(repr(program), []).append(index)
    outcomes: list[Outcome | None] = [None] * len(programs)
    pool = ThreadPoolExecutor(workers or usable_cores(), thread_name_prefix="sandbox")
    try:
        runs = [pool.submit(sandbox.run, programs[indices[0]], allowed) for indices in same.values()]
        for indices, run in zip(same.values(), runs, strict=True):
            outcome = run.result()
            for index in indices:
                outcomes[index] = outcome
            finished(len(indices))
    finally:
        pool.shutdown(cancel_futures=True)
    return [outcome for outcome in outcomes if outcome is not None]
