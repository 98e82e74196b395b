"""Open-domain questions with short answers: NQ-open, WebQuestions. The model answers from what it knows."""

from __future__ import annotations

from dataclasses import dataclass

from ..config.schema import option
from ..evaluation.answers import same_answer
from . import TASKS
from ._causal import CausalConfig, CausalTask
from ._rows import Row
from .base import Example


@dataclass
class OpenQaConfig(CausalConfig):
    """Questions with a list of accepted short answers."""

    answers: list[str] = option(["answer"], "columns that may hold the accepted answers; the first that is there does")
    articles: str = option(
        "words",
        "words: a, an, the don't count; letters: as lm-evaluation-harness' nq_open version 0, which drops every a",
        choices=("words", "letters"),
    )


@TASKS.register("open_qa")
class OpenQa(CausalTask):
    Config = OpenQaConfig

    def example(self, row: Row, key: str) -> Example:
        column = next((name for name in self.config.answers if name in row.values), self.config.answers[0])
        answers = row.texts(column)
        response = self.config.response.replace("{answer}", answers[0].strip())
        return Example(key, row.text("question").strip(), label=answers, target=response)

    def extract(self, text: str) -> str:
        return text.strip()

    def matches(self, prediction: str | None, accepted: list[str]) -> bool:
        return prediction is not None and same_answer(prediction, accepted, self.config.articles)

    def calibration_texts(self, examples: list[Example]) -> list[str]:
        """The questions alone: CorDA's KPA does not read their answers."""
        return [example.text for example in examples]
