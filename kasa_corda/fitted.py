"""How far a training has come, as numbers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from .config import TrainerConfig

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass
class Moment:
    """The state of training at one evaluation."""

    step: int
    epoch: float
    select: dict[str, float]


@dataclass
class FitProgress:
    """Everything about a fit that is not a tensor; stored as JSON in every checkpoint."""

    step: int = 0
    best: Moment | None = None
    last: Moment | None = None
    worse: int = 0
    seconds: float = 0.0
    examples: int = 0
    tokens: int = 0
    loss: dict[str, float] = field(default_factory=dict)
    skipped: int = 0
    """steps not applied for a NaN or an infinity"""
    in_a_row: int = 0
    """how many of the last steps these are"""
    overflows: int = 0
    """steps that fp16's scaler left out"""
    smaller: list[list[int]] = field(default_factory=list)
    """[step, accumulation] wherever micro-batches no longer fitted into memory and became smaller"""
    window: dict[str, float] = field(default_factory=dict)
    """losses and counts since the last record"""

    @classmethod
    def read(cls, stored: dict[str, Any]) -> FitProgress:
        moments = {key: Moment(**stored[key]) if stored[key] else None for key in ("best", "last")}
        return cls(**{**stored, **moments})

    def accumulation(self, config: TrainerConfig) -> int:
        """Micro-batches per step by now."""
        return max(config.accumulation, self.smaller[-1][1] if self.smaller else 1)


class Window:
    """Losses and counts since the last record; the losses stay on the device until they are read."""

    def __init__(self, device: torch.device, left_out: int) -> None:
        self.left_out = left_out
        """steps that had been left out before"""
        self.task = torch.zeros((), device=device)
        self.auxiliary = torch.zeros((), device=device)
        self.steps = self.examples = self.tokens = 0

    def add(self, task: torch.Tensor, auxiliary: torch.Tensor, examples: int, tokens: int) -> None:
        self.task += task
        self.auxiliary += auxiliary
        self.steps += 1
        self.examples += examples
        self.tokens += tokens

    def stored(self, accelerator: Accelerator) -> dict[str, float]:
        """Sums over all processes, for ``restore``."""
        losses = {name: accelerator.reduce(getattr(self, name), "sum").item() for name in ("task", "auxiliary")}
        counts = {name: getattr(self, name) for name in ("left_out", "steps", "examples", "tokens")}
        return {**losses, **counts}

    def restore(self, stored: dict[str, float], accelerator: Accelerator) -> None:
        """Go on from ``stored``, which earlier versions did not keep; the first process takes all of the losses."""
        for name, value in stored.items():
            if name not in ("task", "auxiliary"):
                setattr(self, name, int(value))
            elif accelerator.is_main_process:
                getattr(self, name).fill_(value)
