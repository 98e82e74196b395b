"""Standard errors of scores over the examples they were measured on."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

RESAMPLES = 1000


def of_mean(values: Sequence[float]) -> float:
    """Standard error of a mean; 0.0 where a single value leaves it unknown."""
    return float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0


def of_ratio(sums: Sequence[float], counts: Sequence[int]) -> float:
    """Standard error over examples of sum(sums) / sum(counts) (linearised ratio)."""
    mean, ratio = sum(counts) / len(counts), sum(sums) / sum(counts)
    return of_mean([(s - ratio * c) / mean for s, c in zip(sums, counts, strict=True)])


def bootstrap(
    statistic: Callable[[np.ndarray], float], count: int, *, resamples: int = RESAMPLES, seed: int = 0
) -> float:
    """Standard deviation of ``statistic`` over seeded draws, with replacement, of ``count`` example indices."""
    generator = np.random.default_rng(seed)
    drawn = [statistic(generator.integers(0, count, count)) for _ in range(resamples)]
    return float(np.std(drawn, ddof=1))
