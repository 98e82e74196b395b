"""What every task on one or two texts shares: labels, tokens, predictions, scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ..config.schema import TaskConfig, option
from ..errors import ConfigError, unknown
from ..evaluation.metrics import INVALID, METRICS
from ._splits import draw, fingerprint, overlap
from .base import Example, Task, TaskData

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CHUNK = 4096
"""examples tokenised together"""


@dataclass
class TextConfig(TaskConfig):
    """Fields of a classification or regression on one or two texts."""

    columns: list[str] = option([], "names of the text fields: one, or two for a pair")
    labels: list[str] = option([], "class names in the order of the head's outputs; empty for a regression")
    also: list[str] = option([], "further metrics reported beside the selecting one")


class TextTask(Task):
    """Encodes, predicts and scores; families add where the data comes from."""

    Config: ClassVar[type[TextConfig]] = TextConfig

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self._cut: set[str] = set()

    @property
    def num_labels(self) -> int:
        return 1 if self.config.kind == "regression" else len(self.config.labels)

    @property
    def truncated(self) -> int:
        """Distinct examples encoded so far that were longer than max_length."""
        return len(self._cut)

    def check(self) -> None:
        config = self.config
        if config.kind == "generation":
            raise ConfigError(f"task.kind=generation does not fit task.family={config.family}; use classification")
        if len(config.columns) not in (1, 2):
            raise ConfigError(f"task.columns={list(config.columns)} must name one text field, or two for a pair")
        if config.kind == "classification" and len(set(config.labels)) < max(2, len(config.labels)):
            raise ConfigError(f"task.labels={list(config.labels)} must hold at least two different class names")
        if config.kind == "regression" and config.labels:
            raise ConfigError(f"task.labels={list(config.labels)} must be empty for task.kind=regression")
        for key, name in [("task.metric", config.metric), *(("task.also", name) for name in config.also)]:
            fitting = [metric.name for metric in METRICS.values() if metric.fits(config.kind, len(config.labels))]
            if name not in METRICS:
                raise ConfigError(unknown(key, name, fitting))
            if name not in fitting:
                raise ConfigError(
                    f"{key}={name} can't score task={config.name} ({config.kind}, {self.num_labels} outputs); "
                    f"use {', '.join(fitting)}"
                )
        for name, count in config.sizes.items():
            if count < 1:
                raise ConfigError(f"task.sizes.{name}={count} must be at least 1")

    def encode(self, examples: list[Example], tokenizer: PreTrainedTokenizerBase) -> list[dict[str, Any]]:
        """Token ids cut at max_length; cut examples are counted in ``truncated``.

        A tokenizer without a separator token (decoders) reads a pair as two lines of one text.
        """
        rows = []
        for start in range(0, len(examples), CHUNK):
            rows += self._encode(examples[start : start + CHUNK], tokenizer)
        return rows

    def _encode(self, examples: list[Example], tokenizer: PreTrainedTokenizerBase) -> list[dict[str, Any]]:
        limit = self.config.max_length
        tokens = tokenizer(*self._inputs(examples, tokenizer), truncation=True, max_length=limit)
        full = [i for i, ids in enumerate(tokens["input_ids"]) if len(ids) >= limit]
        if full:
            uncut = tokenizer(*self._inputs([examples[i] for i in full], tokenizer), truncation=False, verbose=False)
            self._cut |= {examples[i].id for i, ids in zip(full, uncut["input_ids"], strict=True) if len(ids) > limit}
        rows = [{name: values[i] for name, values in tokens.items()} for i in range(len(examples))]
        number = float if self.config.kind == "regression" else int
        for row, example in zip(rows, examples, strict=True):
            if example.label is not None:
                row["labels"] = number(example.label)
        return rows

    def _inputs(self, examples: list[Example], tokenizer: PreTrainedTokenizerBase) -> tuple[list[str], ...]:
        first = [example.text for example in examples]
        if len(self.config.columns) == 1:
            return (first,)
        second = [example.text_pair or "" for example in examples]
        if tokenizer.sep_token is None:
            return ([f"{a}\n{b}" for a, b in zip(first, second, strict=True)],)
        return first, second

    def predict(self, logits: Any) -> list[Any]:
        """Class indices (INVALID where an output is NaN) or, for a regression, numbers."""
        if self.config.kind == "regression":
            return logits[:, 0].tolist()
        broken = (logits != logits).any(-1).tolist()
        return [INVALID if bad else best for best, bad in zip(logits.argmax(-1).tolist(), broken, strict=True)]

    def score(self, predictions: list[Any], references: list[Any]) -> dict[str, float]:
        return {name: METRICS[name](predictions, references) for name in (self.config.metric, *self.config.also)}

    def assemble(
        self,
        train: list[Example],
        select: list[Example],
        test: dict[str, list[Example]],
        *,
        source: str,
        notes: list[str],
    ) -> TaskData:
        """The finished splits: fixed draw of training examples, fingerprint, notes a reader of the result needs."""
        notes = [*notes]
        for name, examples in test.items():
            shared = overlap(train, examples)
            if shared:
                notes.append(f"{shared:,} of {len(examples):,} {name} texts are also in the training set, as published")
        wanted, available = self.config.train_examples, len(train)
        train = draw(train, wanted)
        if wanted is not None:
            notes.append(f"trained on {len(train):,} of {available:,} training examples (fixed draw)")
        digest = fingerprint({"train": train, "select": select, **test})
        return TaskData(train, select, test, source, digest, notes)

    def size_notes(self, counts: dict[str, int]) -> list[str]:
        """One sentence per split whose number of examples is not the published one."""
        return [
            f"{name} has {count:,} examples, published are {self.config.sizes[name]:,}"
            for name, count in counts.items()
            if self.config.sizes.get(name, count) != count
        ]
