"""What a search tries next, as a function of what it has found; so the same command goes on wherever it was stopped.

1. The half decades of the window. 2. While the best of them is the first or the last one, half a decade more on that
side, at most ``MOST_EXTENSIONS`` times. 3. A quarter decade on either side of the best. The best of all is chosen.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from .rates import WIDTH, beside

MOST_EXTENSIONS = 3
REFINEMENTS = 2
TRIALS = WIDTH + REFINEMENTS
"""rates that the search of every method tries, those that extend its window not counted"""

FAILED = -math.inf
"""merit of a rate at which a run failed or its score is no number: below all others, and never chosen"""


@dataclass(frozen=True)
class Decision:
    """Either rates to try next, or the rate that was chosen; neither if no rate of all that were tried worked."""

    rates: tuple[float, ...] = ()
    chosen: float | None = None
    extended: int = 0
    """half decades that were added to the window"""
    at_edge: bool = False
    """whether the smallest or largest rate of all was chosen: a better one may lie outside"""


def decide(window: Iterable[float], merits: Mapping[float, float]) -> Decision:
    """The next step of a search. merits: rate -> mean over the search seeds, higher is better, or ``FAILED``."""
    ladder, extended = sorted(window), 0
    while True:
        if missing := _missing(ladder, merits):
            return Decision(missing, extended=extended)
        best = winner(ladder, merits)
        if extended == MOST_EXTENSIONS or best not in (ladder[0], ladder[-1]):
            break
        extended += 1
        ladder = [beside(best, -2), *ladder] if best == ladder[0] else [*ladder, beside(best, 2)]
    if merits[best] == FAILED:
        return Decision(extended=extended)
    ladder = sorted([*ladder, beside(best, -1), beside(best, 1)])
    if missing := _missing(ladder, merits):
        return Decision(missing, extended=extended)
    chosen = winner(ladder, merits)
    return Decision(chosen=chosen, extended=extended, at_edge=chosen in (ladder[0], ladder[-1]))


def winner(rates: Iterable[float], merits: Mapping[float, float]) -> float:
    """The best of several rates; of equal ones the smaller."""
    return max(sorted(rates), key=lambda rate: merits[rate])


def merit(scores: Iterable[float | None], higher_is_better: bool = True) -> float:
    """Of the scores of one rate over the search seeds; None is a run that failed."""
    values = list(scores)
    if not values or any(value is None or not math.isfinite(value) for value in values):
        return FAILED
    mean = math.fsum(value for value in values if value is not None) / len(values)
    return mean if higher_is_better else -mean


def _missing(rates: Iterable[float], merits: Mapping[float, float]) -> tuple[float, ...]:
    return tuple(rate for rate in rates if rate not in merits)
