"""Matthews' coefficient, F1 and accuracy: all that are printed of one run come from one confusion matrix.

Of a set with P examples of class 1 and N of class 0, let q examples be predicted as class 1, t of them rightly. Then

    accuracy = (N - q + 2 t) / (P + N)
    F1       = 2 t / (P + q)
    Matthews = ((P + N) t - q P) / sqrt(q P N (P + N - q))

all grow with t for a fixed q, so a printed interval of each is an interval of t, and a matrix exists if for some q the
intervals have a whole number in common. Matthews is 0 for q = 0 and q = P + N.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from .finding import Finding, name_of
from .printed import Printed
from .reading import MATRIX, SHARES, Reading
from .sets import EvaluationSet

CHECK = "one confusion matrix"
SLACK = 1e-9
"""rounding of the closed form in double precision, in units of t"""


def matrix_exists(known: EvaluationSet, scores: Mapping[str, Printed]) -> bool:
    """Whether one confusion matrix gives every score; keys are 'accuracy', 'f1' and 'matthews'."""
    low, high = _right_positives(known, scores)
    return bool((np.ceil(low - SLACK) <= np.floor(high + SLACK)).any())


def nearest_values(known: EvaluationSet, kind: str, value: float) -> tuple[float, float]:
    """The largest possible score up to ``value`` and the smallest from it on."""
    positive, negative, q = _sizes(known)
    exact = _solved(kind, value, positive, negative, q)
    found = []
    for t in (np.floor(exact), np.ceil(exact)):
        t = np.clip(t, np.maximum(0, q - negative), np.minimum(positive, q))
        found.append(_score(kind, t, positive, negative, q))
    values = np.concatenate([*found, _score(kind, np.zeros(1), positive, negative, np.zeros(1))])
    below, above = values[values <= value], values[values >= value]
    return (float(below.max()) if below.size else math.nan, float(above.min()) if above.size else math.nan)


def check_matrices(readings: Sequence[Reading]) -> Iterator[Finding]:
    """Scores of one run and task that no confusion matrix gives, alone or together."""
    groups: dict[tuple[str, ...], list[Reading]] = defaultdict(list)
    for reading in readings:
        if (
            reading.kind in (*MATRIX, *SHARES)
            and reading.set is not None
            and reading.set.positive is not None
            and reading.runs in (None, 1)
            and abs(reading.printed.value) <= 1
        ):
            cell = reading.cell
            # two scores of the same words are of one model; the words of the metric alone may differ
            groups[(*reading.place, cell.task, reading.role, reading.epoch)].append(reading)
    for members in groups.values():
        known = members[0].set
        assert known is not None
        wrong = [r for r in members if r.kind in MATRIX and not matrix_exists(known, {r.kind: r.printed})]
        for reading in wrong:
            severity = "unstated" if reading.runs is None else "impossible"
            yield Finding(severity, CHECK, (reading.cell,), _alone(reading))
        together = [r for r in members if r not in wrong]
        scores = {"accuracy" if r.kind in SHARES else r.kind: r for r in together}
        if len(scores) > 1 and len(scores) == len(together):
            yield from _together(known, scores)


def _together(known: EvaluationSet, scores: Mapping[str, Reading]) -> Iterator[Finding]:
    if matrix_exists(known, {kind: r.printed for kind, r in scores.items()}):
        return
    members = tuple(scores.values())
    if not all(matrix_exists(known, {kind: r.printed}) for kind, r in scores.items()):
        return  # one of them is impossible alone, which is said already
    first = members[0]
    values = " and ".join(f"{r.cell.metric} {r.printed.text}" for r in members)
    sentence = (
        f"{first.cell.paper}, {first.cell.table}: {first.cell.method} on {first.cell.model} {first.cell.task}: "
        f"{values} are each possible, but no confusion matrix of {known.negative} + {known.positive} examples gives "
        "them together"
    )
    if all(r.runs == 1 for r in members) and not (first.role == "best" and not first.epoch):
        yield Finding("impossible", CHECK, tuple(r.cell for r in members), sentence + ".")
    elif first.role == "best" and not first.epoch:
        more = "; each may be the best of another epoch."
        yield Finding("notice", CHECK, tuple(r.cell for r in members), sentence + more)
    else:
        more = "; they are means of several runs, or of different models."
        yield Finding("unstated", CHECK, tuple(r.cell for r in members), sentence + more)


def _alone(reading: Reading) -> str:
    known, number = reading.set, reading.printed
    assert known is not None
    value = float(number.value)
    below, above = nearest_values(known, reading.kind, value)
    return (
        f"{name_of(reading.cell)} = {number.text} comes from no confusion matrix of "
        f"{known.negative} + {known.positive} examples; the nearest possible values are "
        f"{below * number.unit:.10g} and {above * number.unit:.10g}."
    )


def _right_positives(known: EvaluationSet, scores: Mapping[str, Printed]) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest t for every q = 0..n."""
    positive, negative, q = _sizes(known)
    low, high = np.maximum(0.0, q - negative), np.minimum(float(positive), q)
    for kind, number in scores.items():
        below, above = (_solved(kind, float(end), positive, negative, q) for end in (number.low, number.high))
        if kind == "matthews":  # 0 by definition where all predictions agree
            for end in (0, -1):
                below[end], above[end] = (-np.inf, np.inf) if number.low <= 0 <= number.high else (np.inf, -np.inf)
        low, high = np.maximum(low, below), np.minimum(high, above)
    return low, high


def _sizes(known: EvaluationSet) -> tuple[int, int, np.ndarray]:
    assert known.positive is not None and known.negative is not None
    return known.positive, known.negative, np.arange(known.size + 1, dtype=float)


def _solved(kind: str, value: float, positive: int, negative: int, q: np.ndarray) -> np.ndarray:
    """The t, not whole, at which the score is ``value``."""
    total = positive + negative
    if kind == "accuracy":
        return (value * total - negative + q) / 2
    if kind == "f1":
        return value * (positive + q) / 2
    return (value * np.sqrt(q * positive * negative * (total - q)) + q * positive) / total


def _score(kind: str, t: np.ndarray, positive: int, negative: int, q: np.ndarray) -> np.ndarray:
    total = positive + negative
    if kind == "accuracy":
        return (negative - q + 2 * t) / total
    if kind == "f1":
        return 2 * t / (positive + q)
    spread = np.sqrt(q * positive * negative * (total - q))
    return np.where(spread > 0, (total * t - q * positive) / np.where(spread > 0, spread, 1), 0.0)
