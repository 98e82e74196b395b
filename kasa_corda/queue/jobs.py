"""One run to make, and how it ended."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from ..config import RunConfig
from ..store import RunDirectory


@dataclass(frozen=True, eq=False)
class Job:
    """A run: its config, where it goes, and what the queue orders it by."""

    config: RunConfig
    directory: RunDirectory
    command: list[str]
    """what the result says it was made with"""
    seconds: float | None = None
    """estimated; None is not known"""
    claims: tuple[str, ...] = ()
    """ids of the claims it helps to decide"""

    @property
    def path(self) -> Path:
        return self.directory.path

    @property
    def name(self) -> str:
        """'glue/cola minilm kasa seed=0', with the label of a variant."""
        config = self.config
        method = config.method.label or config.method.name
        return f"{config.task.name} {config.model.name} {method} seed={config.seed}"


@dataclass(frozen=True)
class Done:
    """How a job ended: finished, failed or interrupted."""

    job: Job
    state: str
    error: str | None = None
    retried: bool = False
    seconds: float = 0.0
    """of its last attempt"""


More = Callable[[list[Done]], Iterable[Job]]
"""told of the jobs that have just ended for good; gives jobs that have thereby become possible"""
