"""What a task family must offer. Register a subclass with ``@TASKS.register("family")``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ..config.schema import TaskConfig

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


NOTHING_TRAINS = "none"
"""the ``selection`` of a run that only evaluates"""


@dataclass
class Example:
    """One row, whatever its source. ``id`` is stable over runs; paired statistics join on it."""

    id: str
    text: str
    text_pair: str | None = None
    label: Any = None
    """class index, number, or the list of accepted answers of a generation task; None if unknown"""
    target: str | None = None
    """reference response of a generation task: what training imitates"""
    task: str | None = None
    """name of the further task it tests (task.also_evaluate); None for the run's own"""


@dataclass
class TaskData:
    """The splits of a task. ``select`` chooses the epoch, ``test`` is reported (one entry per evaluated split)."""

    train: list[Example]
    select: list[Example]
    test: dict[str, list[Example]]
    source: str
    """where it came from, e.g. 'local folder /data/glue/SST-2' or 'hub nyu-mll/glue at 1a2b3c'"""
    fingerprint: str
    """sha256 over ids, texts and labels of all splits, first 16 hex digits"""
    notes: list[str] = field(default_factory=list)
    """anything the reader of a result should know (rows missing, duplicates dropped, ...)"""

    def splits(self) -> dict[str, list[Example]]:
        """Every split by name: train, select and the evaluated ones."""
        return {"train": self.train, "select": self.select, **self.test}


class Task(ABC):
    """A task family: loads, encodes and scores. One instance serves one run."""

    Config: ClassVar[type[TaskConfig]] = TaskConfig

    def __init__(self, config: Any) -> None:
        self.config = config

    @property
    @abstractmethod
    def num_labels(self) -> int | None:
        """Outputs of the task head: number of classes, 1 for a regression, None for a language model."""

    @property
    def select_metric(self) -> str:
        """The metric that chooses epochs: the reported one unless a family says otherwise."""
        return self.config.metric

    @property
    @abstractmethod
    def truncated(self) -> int:
        """Distinct examples that ``encode`` has cut at max_length so far."""

    @property
    def notes(self) -> list[str]:
        """What the reader of a result should know of how examples were encoded and evaluated."""
        return []

    def fit_into(self, positions: int) -> None:
        """Be told how many positions the model has for prompt and answer."""

    @abstractmethod
    def check(self) -> None:
        """Raise ConfigError if this configuration contradicts itself; touches no data."""

    @abstractmethod
    def load(self, data_dir: Path | None, selection: str) -> TaskData:
        """Read all splits. ``selection`` is held_out, paper (then select is the test split itself), or NOTHING_TRAINS
        (then train and select may be empty).

        DataError, in seconds, if the data can't be reached; its message names the ways on.
        """

    @abstractmethod
    def encode(self, examples: list[Example], tokenizer: PreTrainedTokenizerBase) -> list[dict[str, Any]]:
        """Token ids (input_ids, attention_mask, token_type_ids if any, labels), unpadded, cut at max_length."""

    @abstractmethod
    def predict(self, logits: Any) -> list[Any]:
        """Predictions from the head's logits (batch, num_labels): class indices or numbers."""

    @abstractmethod
    def score(self, predictions: list[Any], references: list[Any]) -> dict[str, float]:
        """All metrics of this task on one split, as fractions (accuracy 0.5, not 50)."""

    def calibration_texts(self, examples: list[Example]) -> list[str]:
        """What calibration reads of training examples: the text, and below it the second text of a pair."""
        return [example.text + (f"\n{example.text_pair}" if example.text_pair else "") for example in examples]

    def combine(self, scores: dict[str, dict[str, float]]) -> dict[str, float]:
        """Metrics over all test splits; the mean of each metric unless a family says otherwise."""
        names = next(iter(scores.values()))
        return {name: sum(split[name] for split in scores.values()) / len(scores) for name in names}

    def combine_errors(self, errors: dict[str, dict[str, float]]) -> dict[str, float]:
        """Standard errors of what ``combine`` gives; the splits are independent."""
        names = next(iter(errors.values()))
        return {name: sum(split[name] ** 2 for split in errors.values()) ** 0.5 / len(errors) for name in names}
