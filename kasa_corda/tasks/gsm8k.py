"""GSM8K (Cobbe et al. 2021): grade-school word problems, worked solutions, one number as the answer.

``exact_match`` reads the answer as task.marker and task.number say. Beside it stand ``exact_match_paper``, what the
script of MetaMath, PiSSA and CorDA counts, and ``exact_match_robust`` (kasa_corda/evaluation/math), which also takes
answers behind "####", in \\boxed or at the end of a text, and compares by value.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from ..config.schema import option
from ..errors import ConfigError, DataError
from ..evaluation.answers import after_last, first_number, paper_number
from ..evaluation.base import Evaluation
from ..evaluation.generation import EXACT_MATCH
from . import TASKS
from ._causal import CausalTask
from ._causal_config import CausalConfig
from ._rows import Row
from ._rules import PAPER, ROBUST, add_rule
from .base import Example

GOLD = "####"
"""stands before the answer in the published solutions"""
CALCULATION = re.compile(r"<<[^<>]*>>")
"""calculator annotations of the published solutions, left out of what is learned"""


@dataclass
class Gsm8kConfig(CausalConfig):
    """Word problems answered by a number."""

    marker: str = option("The answer is:", "the answer is the first number after the last of these in a text")
    number: str = option(
        "exact",
        "exact: reads any number exactly; paper: as CorDA's script, reads of 1,234,567 only 1,234 and rounds",
        choices=("exact", "paper"),
    )


@TASKS.register("gsm8k")
class Gsm8k(CausalTask):
    Config = Gsm8kConfig

    @property
    def text_metrics(self) -> tuple[str, ...]:
        return (EXACT_MATCH, PAPER, ROBUST)

    def check(self) -> None:
        super().check()
        if not self.config.marker.strip() or self.config.marker not in self.config.response:
            raise ConfigError(
                f"task.marker={self.config.marker!r} must stand in task.response={self.config.response!r}; "
                "without it no answer is found"
            )

    def example(self, row: Row, key: str) -> Example:
        question, published = row.text("question"), row.text("answer")
        solution, found, gold = published.rpartition(GOLD)
        answer = first_number(gold)
        if not found or answer is None:
            raise DataError(f"{row.where}: the solution does not end in {GOLD!r} and a number")
        response = self.config.response.replace("{answer}", str(answer))
        response = response.replace("{solution}", CALCULATION.sub("", solution).strip())
        return Example(key, question.strip(), label=[str(answer)], target=response)

    def extract(self, text: str) -> str | None:
        rest = after_last(text, self.config.marker)
        if rest is None:
            return None
        number = paper_number(rest) if self.config.number == "paper" else first_number(rest)
        return None if number is None else str(number)

    def matches(self, prediction: str | None, accepted: list[str]) -> bool:
        return prediction is not None and any(Fraction(prediction) == Fraction(answer) for answer in accepted)

    def grade(self, examples: list[Example], texts: list[list[str]]) -> Evaluation:
        from ..evaluation.math.equivalence import equivalent
        from ..evaluation.math.extraction import PAPER_MARKER, robust_answer

        evaluation = super().grade(examples, texts)
        golds = [example.label[0] for example in examples]
        behind = [after_last(first, PAPER_MARKER) for first, *_ in texts]
        papers = [None if rest is None else paper_number(rest) for rest in behind]
        same = [number is not None and number == Fraction(gold) for number, gold in zip(papers, golds, strict=True)]
        add_rule(evaluation, PAPER, [None if number is None else str(number) for number in papers], same)
        robust = [robust_answer(first, self.config.marker) for first, *_ in texts]
        add_rule(evaluation, ROBUST, robust, [equivalent(*pair) for pair in zip(robust, golds, strict=True)])
        return evaluation
