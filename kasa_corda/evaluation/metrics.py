"""Metrics that work offline, with every degenerate case defined.

Predictions and references are lists or arrays of equal length. Scores are fractions.

- A prediction that is not a number is wrong: for classes it never equals a reference, and one non-finite
  prediction makes a correlation 0.0.
- A correlation with a constant (all predictions or all references equal, one example) is 0.0.
- Matthews' coefficient is 0.0 if predictions or references know only one class; F1 is 0.0 without a true positive.
- No examples, or lists of different length, is a ValueError.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

Vector: TypeAlias = Sequence[Any] | np.ndarray

INVALID = -1
"""stands for a predicted class that is not a number; never right"""


def _classes(values: Any) -> np.ndarray:
    """Class indices as integers; anything that is not a number becomes INVALID."""
    numbers = np.asarray(values, dtype=float)
    return np.where(np.isfinite(numbers), numbers, INVALID).astype(int)


def _paired(predictions: Any, references: Any) -> None:
    if len(predictions) != len(references):
        raise ValueError(f"{len(predictions)} predictions for {len(references)} references")
    if len(references) == 0:
        raise ValueError("no examples to score")


def accuracy(predictions: Any, references: Any) -> float:
    """Share of predictions equal to their reference."""
    return float(np.mean(_classes(predictions) == _classes(references)))


def f1(predictions: Any, references: Any) -> float:
    """F1 of class 1 in a task with two classes."""
    predicted, actual = _classes(predictions) == 1, _classes(references) == 1
    total = int(predicted.sum() + actual.sum())
    return float(2 * (predicted & actual).sum() / total) if total else 0.0


def matthews(predictions: Any, references: Any) -> float:
    """Matthews' correlation coefficient (its generalisation R_K where there are more than two classes)."""
    predicted, actual = _classes(predictions), _classes(references)
    count = len(actual)
    names = np.union1d(predicted, actual)
    in_predicted = [int((predicted == name).sum()) for name in names]
    in_actual = [int((actual == name).sum()) for name in names]
    right = int((predicted == actual).sum())
    covariance = right * count - sum(p * a for p, a in zip(in_predicted, in_actual, strict=True))
    spread = (count**2 - sum(p * p for p in in_predicted)) * (count**2 - sum(a * a for a in in_actual))
    return covariance / math.sqrt(spread) if spread else 0.0


def pearson(predictions: Any, references: Any) -> float:
    """Pearson's correlation coefficient."""
    x, y = (_deviations(np.asarray(values, dtype=float)) for values in (predictions, references))
    if x is None or y is None:
        return 0.0
    return float(np.clip(x @ y, -1.0, 1.0))


def spearman(predictions: Any, references: Any) -> float:
    """Spearman's rank correlation; ties share their mean rank."""
    from scipy.stats import rankdata

    x, y = (np.asarray(values, dtype=float) for values in (predictions, references))
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        return 0.0
    return pearson(rankdata(x), rankdata(y))


def _deviations(values: np.ndarray) -> np.ndarray | None:
    """Deviations from the mean at length 1; None if there are none or a value is not finite."""
    if not np.isfinite(values).all() or values.min() == values.max():
        return None
    centred = values / np.abs(values).max()
    centred = centred - centred.mean()
    length = np.linalg.norm(centred)
    return centred / length if length > 0 else None


@dataclass(frozen=True)
class Metric:
    """A named metric, callable and with ``compute`` as the ``evaluate`` library has it."""

    name: str
    function: Callable[[Any, Any], float]
    kind: str
    """classification or regression"""
    binary: bool = False
    """true if it is defined for two classes only"""

    def __call__(self, predictions: Vector, references: Vector) -> float:
        _paired(predictions, references)
        return self.function(predictions, references)

    def compute(self, *, predictions: Vector, references: Vector) -> dict[str, float]:
        return {self.name: self(predictions, references)}

    def fits(self, kind: str, classes: int) -> bool:
        return self.kind == kind and (not self.binary or classes == 2)


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("accuracy", accuracy, "classification"),
        Metric("f1", f1, "classification", binary=True),
        Metric("matthews", matthews, "classification"),
        Metric("pearson", pearson, "regression"),
        Metric("spearman", spearman, "regression"),
    )
}


def standard_error(
    metric: str, predictions: Vector, references: Vector, *, resamples: int = 1000, seed: int = 0
) -> float:
    """Standard error over examples: sqrt(p (1 - p) / n) for accuracy, a seeded bootstrap for every other metric."""
    value = METRICS[metric](predictions, references)
    count = len(references)
    if metric == "accuracy":
        return math.sqrt(value * (1 - value) / count)
    x, y = np.asarray(predictions, dtype=float), np.asarray(references, dtype=float)
    generator = np.random.default_rng(seed)
    draws = (generator.integers(0, count, count) for _ in range(resamples))
    return float(np.std([METRICS[metric](x[chosen], y[chosen]) for chosen in draws], ddof=1))
