"""What an evaluator must offer. Register a subclass with ``@EVALUATORS.register("name")``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from ..config.schema import EvaluatorConfig, TaskConfig

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from ..methods import Method
    from ..progress import Progress
    from ..tasks import Example, Task
    from .journal import Journal


@dataclass
class Evaluation:
    """The outcome on one split."""

    scores: dict[str, float]
    rows: list[dict[str, Any]]
    """per example: id, prediction, reference, score"""
    errors: dict[str, float] = field(default_factory=dict)
    """standard error of each score over the examples, as far as known"""
    notes: list[str] = field(default_factory=list)
    """what a reader of the scores should know, e.g. who judged"""
    settings: dict[str, Any] = field(default_factory=dict)
    """how the model was used: backend, batch size, padding, decoding"""

    def add(self, other: Evaluation) -> None:
        """Take over scores, errors and columns that another evaluation of the same examples has."""
        self.scores |= other.scores
        self.errors |= other.errors
        self.notes += other.notes
        self.settings |= other.settings
        for row, columns in zip(self.rows, other.rows, strict=True):
            row |= columns


@dataclass(frozen=True)
class WithinRun:
    """What an evaluation that is part of a run may use."""

    method: Method | None = None
    folder: Path | None = None
    journal: Journal | None = None
    """of the split that is evaluated next; None keeps nothing"""


class Evaluator(ABC):
    """Runs a model over a split and scores it."""

    Config: ClassVar[type[EvaluatorConfig]] = EvaluatorConfig
    kinds: ClassVar[tuple[str, ...]] = ()
    """the kinds of task it can score"""
    run: WithinRun | None = None

    def __init__(self, config: Any) -> None:
        self.config = config

    def check(self, task: TaskConfig) -> None:
        """Raise ConfigError if this configuration contradicts itself or ``task``; looks at nothing outside them."""

    def ready(self, task: TaskConfig) -> None:
        """Raise ConfigError, in seconds, if something outside that it needs is missing; called before a model loads."""

    @abstractmethod
    def evaluate(
        self,
        model: nn.Module,
        tokenizer: PreTrainedTokenizerBase,
        task: Task,
        examples: list[Example],
        progress: Progress,
        *,
        only: str | None = None,
    ) -> Evaluation:
        """Predict every example once, in evaluation mode, without gradients.

        ``only`` names the one metric that is wanted (choosing epochs): the work for others may be left out.
        """
