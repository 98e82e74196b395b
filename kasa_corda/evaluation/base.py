"""What an evaluator must offer. Register a subclass with ``@EVALUATORS.register("name")``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from ..config.schema import EvaluatorConfig

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from ..progress import Progress
    from ..tasks import Example, Task


@dataclass
class Evaluation:
    """The outcome on one split."""

    scores: dict[str, float]
    rows: list[dict[str, Any]]
    """per example: id, prediction, reference, score"""
    errors: dict[str, float] = field(default_factory=dict)
    """standard error of each score over the examples, as far as known"""

    def add(self, other: Evaluation) -> None:
        """Take over scores, errors and columns that another evaluation of the same examples has."""
        self.scores |= other.scores
        self.errors |= other.errors
        for row, columns in zip(self.rows, other.rows, strict=True):
            row |= columns


class Evaluator(ABC):
    """Runs a model over a split and scores it."""

    Config: ClassVar[type[EvaluatorConfig]] = EvaluatorConfig
    kinds: ClassVar[tuple[str, ...]] = ()
    """the kinds of task it can score"""

    def __init__(self, config: Any) -> None:
        self.config = config

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
