"""Commonsense questions in the LLM-Adapters format (Hu et al. 2023): an instruction that lists named choices.

Two rules are reported of every evaluation. ``exact_match`` is the papers': the answer is generated, and the first name
of a choice in it counts, wherever it stands. ``likelihood_accuracy`` needs no generation: the choice whose text the
model finds most likely after the prompt, by its summed log-likelihood, or per token (``likelihood_accuracy_norm``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..config.schema import option
from ..errors import ConfigError, DataError
from ..evaluation.answers import first_word
from ..evaluation.base import Evaluation
from ..evaluation.errors import of_mean
from . import TASKS
from ._causal import CausalTask
from ._causal_config import CausalConfig
from ._rows import Row
from .base import Example

if TYPE_CHECKING:
    from ..evaluation._likelihood import Continuation

CHOICE_METRICS = ("likelihood_accuracy", "likelihood_accuracy_norm")
AVERAGE = "average"
"""of a training mixture without a test set: mean over the tasks it is tested on, as the papers' last column"""
FORMAT = re.compile(r"Answer format:\s*(\S+)\s*$")
"""ends every published instruction: the names of its choices, with slashes between them"""


@dataclass
class CommonsenseConfig(CausalConfig):
    """Questions with named choices."""

    words: list[str] = option([], "names of choices: the first one in a generated text is its answer")
    compare: str = option(
        "response",
        "what likelihood_accuracy compares: response (the whole response with each choice's name), or text (what the"
        " choice says)",
        choices=("response", "text"),
    )


@TASKS.register("commonsense")
class Commonsense(CausalTask):
    Config = CommonsenseConfig

    def check(self) -> None:
        super().check()
        if not self.config.words or "" in self.config.words:
            raise ConfigError("task.words must name the choices, such as [answer1, answer2]")
        if "{answer}" not in self.config.response:
            raise ConfigError(f"task.response={self.config.response!r} must hold {{answer}}, the name of the choice")

    @property
    def choice_metrics(self) -> tuple[str, ...]:
        return CHOICE_METRICS

    @property
    def metrics(self) -> tuple[str, ...]:
        return super().metrics if "test" in self.config.files else (*super().metrics, AVERAGE)

    def combine(self, scores: dict[str, dict[str, float]]) -> dict[str, float]:
        """As every task, and a training mixture's average."""
        found = super().combine(scores)
        if values := self._averaged(found):
            found[AVERAGE] = sum(values) / len(values)
        return found

    def combine_errors(self, errors: dict[str, dict[str, float]]) -> dict[str, float]:
        """The tasks have different examples: their errors are independent."""
        found = super().combine(errors)
        if values := self._averaged(found):
            found[AVERAGE] = sum(value**2 for value in values) ** 0.5 / len(values)
        return found

    def _averaged(self, found: dict[str, float]) -> list[float]:
        """What a training mixture's average is of: the further tasks' own metrics; nothing unless all are there."""
        columns = [f"{name}_{task.config.metric}" for name, task in self.further.items()]
        complete = "test" not in self.config.files and all(column in found for column in columns)
        return [found[column] for column in columns] if complete else []

    def example(self, row: Row, key: str) -> Example:
        question, answer = row.text("instruction").strip(), row.text("answer").strip()
        if answer not in self.config.words:
            raise DataError(f"{row.where}, 'answer': {answer!r} is not one of {', '.join(self.config.words)}")
        if given := str(row.values.get("input") or "").strip():
            question += f"\n\n### Input:\n{given}"
        return Example(key, question, label=[answer], target=self.config.response.replace("{answer}", answer))

    def extract(self, text: str) -> str | None:
        return first_word(text, self.config.words)

    def matches(self, prediction: str | None, accepted: list[str]) -> bool:
        return prediction in accepted

    def choices(self, question: str) -> dict[str, str]:
        """Name -> what it says, of the choices that a question lists; for true and false the name is all there is.

        Names without a text, and all of ``words`` where the question does not say its choices, stand for themselves.
        """
        found = FORMAT.search(question)
        if found is None:
            return {word: word for word in self.config.words}
        names, body = found[1].split("/"), question[: found.start()]
        texts = re.split("|".join(rf"\b{re.escape(name.capitalize())}:" for name in names), body)[1:]
        said = [text.strip() for text in texts]
        return dict(zip(names, said, strict=True)) if len(said) == len(names) and all(said) else {n: n for n in names}

    def continuations(self, example: Example) -> list[str]:
        choices = self.choices(example.text)
        if self.config.compare == "text":
            return list(choices.values())
        return [self.config.response.replace("{answer}", name) for name in choices]

    def grade_continuations(self, examples: list[Example], scored: list[list[Continuation]]) -> Evaluation:
        """The most likely choice; of equally likely ones the first."""
        rows: list[dict[str, Any]] = []
        for example, options in zip(examples, scored, strict=True):
            names = list(self.choices(example.text))
            summed = [c.nll for c in options]
            chosen = [
                names[losses.index(min(losses))]
                for losses in (summed, [loss / c.tokens for loss, c in zip(summed, options, strict=True)])
            ]
            right = {m: float(self.matches(c, example.label)) for m, c in zip(CHOICE_METRICS, chosen, strict=True)}
            row: dict[str, Any] = {"likelihood_prediction": chosen[0], "likelihood_prediction_norm": chosen[1], **right}
            rows.append(row | ({"score": right[self.config.metric]} if self.config.metric in right else {}))
        values = {metric: [row[metric] for row in rows] for metric in CHOICE_METRICS}
        return Evaluation(
            {metric: sum(found) / len(found) for metric, found in values.items()},
            rows,
            {metric: of_mean(found) for metric, found in values.items()},
        )
