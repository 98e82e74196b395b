"""One attempt at a run, and what a second one may do about a failure."""

from __future__ import annotations

import gc
import sys
from dataclasses import asdict, dataclass
from typing import Any

from ..config import RunConfig
from ..errors import KasaCordaError
from ..interrupt import Interrupted
from ..launch import launch
from ..store import RunDirectory
from .causes import MEMORY, cause_of, unexpected
from .jobs import Job
from .worker import GRACE_SECONDS

PATIENCE_SECONDS = GRACE_SECONDS + 10
"""for a run that a worker is still saving whose queue was killed"""


@dataclass(frozen=True)
class Ended:
    """How an attempt ended; travels from a worker to the queue as JSON."""

    state: str
    """finished, failed or interrupted"""
    error: str | None = None
    cause: str | None = None
    """why another attempt may do better (``causes``)"""
    poisoned: bool = False
    """whether the process should not be used again"""


def attempt(config: RunConfig, directory: RunDirectory, command: list[str], accumulation: int | None = None) -> Ended:
    """Run it; never raises but for a second interruption. Its state is in status.json."""
    try:
        launch(config, directory, command, accumulation or recorded_accumulation(directory), PATIENCE_SECONDS)
    except (Interrupted, KeyboardInterrupt) as stop:
        return Ended("interrupted", str(stop))
    except KasaCordaError as error:
        return Ended("failed", str(error), cause_of(error), unexpected(error))
    except Exception as error:  # its directory can't be written
        message = f"{type(error).__name__}: {error}"
        return Ended("failed", message, cause_of(error), True)
    finally:
        cleared()
    return Ended("finished")


def twice(config: RunConfig, directory: RunDirectory, command: list[str]) -> tuple[Ended, bool]:
    """An attempt, and another one in this process if that may do better; whether there was another one."""
    ended = attempt(config, directory, command)
    if ended.cause is None:
        return ended, False
    return attempt(config, directory, command, second_accumulation(config, ended.cause)), True


def second_accumulation(config: RunConfig, cause: str | None) -> int | None:
    """trainer.accumulation of the second attempt: twice as many micro-batches where memory ran out, at most one for
    each example; None is as before."""
    if cause != MEMORY:
        return None
    return min(2 * config.trainer.accumulation, config.trainer.batch_size)


def recorded_accumulation(directory: RunDirectory) -> int | None:
    """What an interrupted run had come to."""
    status = directory.status() or {}
    return status.get("accumulation") if directory.state() in ("interrupted", "running") else None


def record_failure(job: Job, error: str, **details: Any) -> None:
    """Write that a job failed without, or before, having run: the report then shows why."""
    if job.directory.config() is None:
        job.directory.write_config(asdict(job.config))
    job.directory.write_status("failed", error=error, **details)


def cleared() -> None:
    """Give back the memory of the run before, on the GPU too."""
    gc.collect()
    torch: Any = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    if (dynamo := sys.modules.get("torch._dynamo")) is not None:
        dynamo.reset()  # type: ignore[attr-defined]
