"""How many seeds would decide a comparison."""

from __future__ import annotations

import math
from dataclasses import replace

from .inference import LEVEL, Estimate, quantile

POWER = 0.8
MOST = 10_000


def power(found: Estimate, effect: float, seeds: int, level: float = LEVEL) -> float:
    """Chance that ``seeds`` seeds show a difference of ``effect`` (two-sided test at ``level``, in the right
    direction), if the spread over seeds and examples is as found."""
    from scipy.special import nctdtr

    if found.seed_variance is None or seeds < 2:
        return 0.0
    more = replace(
        found,
        seeds=seeds,
        seed_variance=found.seed_variance * found.seeds / seeds,
        degrees=found.degrees * (seeds - 1) / (found.seeds - 1),
    )
    assert more.variance is not None
    shift = effect / math.sqrt(more.variance)
    limit = quantile(more.all_degrees, 1 - level)
    chance = 1 - float(nctdtr(more.all_degrees, shift, limit))
    return chance if math.isfinite(chance) else float(shift > limit)


def seeds_needed(found: Estimate, effect: float, level: float = LEVEL) -> int | None:
    """The fewest seeds with a power of 80 %; None if there is no spread to go by or ``MOST`` would not do, because the
    examples are too few however many seeds there are."""
    effect = abs(effect)
    if found.seed_variance is None or effect == 0 or power(found, effect, MOST, level) < POWER:
        return None
    low, high = 1, 2
    while power(found, effect, high, level) < POWER:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power(found, effect, middle, level) >= POWER else (middle, high)
    return high
