"""Open-domain questions with short answers: NQ-open, WebQuestions, TriviaQA. The model answers from what it knows.

Two rules. The standard one: the generated answer equals an accepted one (``exact_match``) or shares words with it
(``f1``), without case, punctuation and articles. And the one the papers used through lm-evaluation-harness
(``task.harness``, ``harness_match``), where WebQuestions is not generated at all: an answer is right when it is the
greedy continuation of the prompt.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Optional

from ..config.schema import option
from ..evaluation.answers import HARNESS_RULES, harness_match, same_answer, token_f1
from ..evaluation.base import Evaluation
from ..evaluation.errors import of_mean
from ..evaluation.generation import EXACT_MATCH
from . import TASKS
from ._causal import CausalTask
from ._causal_config import CausalConfig
from ._rows import Row
from .base import Example

if TYPE_CHECKING:
    from ..evaluation._likelihood import Continuation

F1, HARNESS = "f1", "harness_match"
GREEDY = "webqs"
"""the harness's rule that compares continuations instead of generated texts"""


@dataclass
class OpenQaConfig(CausalConfig):
    """Questions with a list of accepted short answers."""

    answers: list[str] = option(["answer"], "columns that may hold the accepted answers; the first that is there does")
    articles: str = option(
        "words",
        "words: a, an, the don't count; letters: as lm-evaluation-harness' nq_open version 0, which drops every a",
        choices=("words", "letters"),
    )
    harness: Optional[str] = option(
        None,
        "also report harness_match, by the rule of lm-evaluation-harness' task of this name (nq_open_4: its version 4;"
        " nq_open: as first written); null leaves it out",
        choices=(*HARNESS_RULES, GREEDY),
        later=True,
    )


@TASKS.register("open_qa")
class OpenQa(CausalTask):
    Config = OpenQaConfig

    @property
    def text_metrics(self) -> tuple[str, ...]:
        return (EXACT_MATCH, F1, *((HARNESS,) if self.config.harness in HARNESS_RULES else ()))

    @property
    def choice_metrics(self) -> tuple[str, ...]:
        return (HARNESS,) if self.config.harness == GREEDY else ()

    def example(self, row: Row, key: str) -> Example:
        column = next((name for name in self.config.answers if name in row.values), self.config.answers[0])
        answers = _aliases(row, column) if isinstance(row.values.get(column), dict) else row.texts(column)
        response = self.config.response.replace("{answer}", answers[0].strip())
        return Example(key, row.text("question").strip(), label=answers, target=response)

    def extract(self, text: str) -> str:
        return text.strip()

    def matches(self, prediction: str | None, accepted: list[str]) -> bool:
        return prediction is not None and same_answer(prediction, accepted, self.config.articles)

    def grade(self, examples: list[Example], texts: list[list[str]]) -> Evaluation:
        rows: list[dict[str, Any]] = []
        for example, (text, *_) in zip(examples, texts, strict=True):
            answer = self.extract(text)
            row = {"prediction": answer, EXACT_MATCH: float(self.matches(answer, example.label))}
            row[F1] = token_f1(answer, example.label)
            if HARNESS in self.text_metrics:
                row[HARNESS] = float(harness_match(text, example.label, self.config.harness))
            rows.append(row | {"score": row.get(self.config.metric, row[EXACT_MATCH])})
        return _means(rows, self.text_metrics)

    def continuations(self, example: Example) -> list[str]:
        """Every accepted answer of which no other one is the beginning: that one then decides (as the harness does)."""
        shortest: list[str] = []
        for answer in sorted(example.label):
            if not shortest or not answer.startswith(shortest[-1]):
                shortest.append(answer)
        return [f" {answer}" for answer in shortest]

    def grade_continuations(self, examples: list[Example], scored: list[list[Continuation]]) -> Evaluation:
        rows = [{HARNESS: float(any(option.greedy for option in options))} for options in scored]
        if self.config.metric == HARNESS:
            rows = [row | {"score": row[HARNESS]} for row in rows]
        return _means(rows, (HARNESS,))

    def calibration_texts(self, examples: list[Example]) -> list[str]:
        """The questions alone: CorDA's KPA does not read their answers."""
        return [example.text for example in examples]


def _aliases(row: Row, column: str) -> list[str]:
    """TriviaQA's accepted answers: ``aliases`` of an object, the one named ``value`` in front."""
    given = row.values[column]
    named = Row(given, f"{row.where}, {column!r}")
    value = named.text("value")
    aliases = named.texts("aliases") if given.get("aliases") else [value]
    return sorted(aliases, key=lambda alias: alias != value)


def _means(rows: list[dict[str, Any]], metrics: tuple[str, ...]) -> Evaluation:
    values = {metric: [row[metric] for row in rows] for metric in metrics}
    scores = {metric: sum(found) / len(found) for metric, found in values.items()}
    return Evaluation(scores, rows, {metric: of_mean(found) for metric, found in values.items()})
