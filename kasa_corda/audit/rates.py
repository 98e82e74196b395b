"""How often the audit is wrong and how often it finds something: possible scores printed, and wrong ones.

Every trial draws a confusion matrix (or counts of right answers), prints its scores at a number of decimals, and asks
the same functions as the audit. False alarms: the true scores, rounded half up, half to even, or cut. Power: the same
with an error of up to 5 points added to one score before it is printed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal

import numpy as np

from .matrices import matrix_exists
from .printed import Printed, printed
from .runs import WAYS
from .sets import EvaluationSet, read_sets
from .shares import possible
from .spreads import attainable

DECIMALS = (1, 2, 4, 6, 16)
"""digits printed of the score as a percentage; 16 stands for all"""
TASKS = ("cola", "mrpc", "rte", "sst2", "qnli")
ERROR = 0.05
SEEDS = 3
"""runs behind a mean with standard deviation"""


@dataclass(frozen=True)
class Rate:
    """One row: of one kind of score on one set, printed at some decimals."""

    check: str
    task: str
    size: int
    decimals: int
    trials: int
    false_alarms: int
    wrong: int
    caught: int

    @property
    def power(self) -> float:
        """Share of wrong scores that are called impossible."""
        return self.caught / self.wrong


Scores = dict[str, float]
Verdict = Callable[[EvaluationSet, dict[str, Printed]], bool]


def rates(
    trials: int, *, tasks: tuple[str, ...] = ("cola", "mrpc", "rte", "sst2", "qnli"), seed: int = 0
) -> list[Rate]:
    """Both rates for each set, each check and each number of decimals."""
    generator = np.random.default_rng(seed)
    known = [read_sets()[task] for task in tasks]
    return [
        _rate(check, verdict, one, decimals, list(_drawn(check, one, trials, generator)), generator)
        for check, verdict in CHECKED.items()
        for one in known
        for decimals in DECIMALS
    ]


def _accuracy(known: EvaluationSet, scores: dict[str, Printed]) -> bool:
    return possible(scores["accuracy"], known.size)


def _spread(known: EvaluationSet, scores: dict[str, Printed]) -> bool:
    mean, spread = scores["mean"], scores["std"]
    return possible(mean, known.size * SEEDS) and attainable(mean, spread, known.size, SEEDS)


CHECKED: dict[str, Verdict] = {
    "accuracy": _accuracy,
    "matthews": matrix_exists,
    "f1": matrix_exists,
    "accuracy + f1": matrix_exists,
    "accuracy + f1 + matthews": matrix_exists,
    f"mean + std of {SEEDS} runs": _spread,
}
"""what is printed together -> whether it is possible"""


def _drawn(check: str, known: EvaluationSet, trials: int, generator: np.random.Generator) -> Iterator[Scores]:
    """True scores: of matrices whose errors are few or many, of runs that differ by about one point."""
    assert known.positive is not None and known.negative is not None
    for _ in range(trials):
        if check.startswith("mean"):
            levels = generator.normal(generator.uniform(0.5, 0.97), 0.01, SEEDS)
            counts = generator.binomial(known.size, np.clip(levels, 0, 1))
            shares = counts / known.size
            yield {"mean": float(shares.mean()), "std": float(shares.std(ddof=int(generator.integers(2))))}
            continue
        right, wrong = (generator.binomial(n, generator.uniform(0.4, 1.0)) for n in (known.positive, known.negative))
        false = known.negative - wrong
        predicted = right + false
        spread = np.sqrt(float(predicted) * known.positive * known.negative * (known.size - predicted))
        scores = {
            "accuracy": (right + wrong) / known.size,
            "f1": 2 * right / (known.positive + predicted),
            "matthews": float((known.size * right - predicted * known.positive) / spread) if spread else 0.0,
        }
        yield {name: float(scores[name]) for name in check.split(" + ")}


def _rate(
    check: str,
    verdict: Verdict,
    known: EvaluationSet,
    decimals: int,
    drawn: list[Scores],
    generator: np.random.Generator,
) -> Rate:
    false = caught = wrong = 0
    for index, scores in enumerate(drawn):
        way = WAYS[index % len(WAYS)]
        false += not verdict(known, {name: _shown(value, decimals, way) for name, value in scores.items()})
        changed = dict(scores)
        name = str(generator.choice(list(scores)))
        changed[name] = abs(changed[name] + float(generator.uniform(-ERROR, ERROR)))
        texts = {name: _shown(value, decimals, way) for name, value in changed.items()}
        if changed[name] <= 1 and texts[name].text != _shown(scores[name], decimals, way).text:
            wrong += 1
            caught += not verdict(known, texts)
    return Rate(check, known.task, known.size, decimals, len(drawn), false, wrong, caught)


def _shown(value: float, decimals: int, way: str) -> Printed:
    if decimals >= 16:
        return printed(repr(value), 1)
    text = (Decimal(value) * 100).quantize(Decimal(1).scaleb(-decimals), rounding=way)
    return printed(format(text, "f"), 100)
