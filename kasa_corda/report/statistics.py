"""The numbers behind the tables: means and intervals over seeds, paired tests, Holm's correction."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

RESAMPLES = 2000


@dataclass(frozen=True)
class Summary:
    """Mean over seeds. One seed has no std and no interval; a NaN among the values makes everything NaN."""

    values: tuple[float, ...]
    mean: float
    std: float | None = None
    low: float | None = None
    high: float | None = None

    @property
    def n(self) -> int:
        return len(self.values)


@dataclass(frozen=True)
class PairedDifference:
    """Mean of (ours - reference) over the seeds both have, its 95% t-interval and the paired t-test.

    ``p`` is None where the test says nothing: fewer than two seeds, or the same non-zero difference
    for every seed (no spread to judge it by).
    """

    n: int
    mean: float
    low: float | None = None
    high: float | None = None
    p: float | None = None


def summarise(values: Sequence[float]) -> Summary:
    """Mean, sample standard deviation and 95% t-interval."""
    n = len(values)
    if n == 0:
        raise ValueError("no values to summarise")
    mean = math.fsum(values) / n if all(map(math.isfinite, values)) else math.nan
    if n == 1:
        return Summary(tuple(values), mean)
    std = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1))
    half = t_quantile(n - 1) * std / math.sqrt(n)
    return Summary(tuple(values), mean, std, mean - half, mean + half)


def t_quantile(degrees: int, coverage: float = 0.95) -> float:
    """Student's t: the half-width of a two-sided interval in standard errors."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees, 0.5 + coverage / 2))


def paired_difference(ours: Mapping[int, float], reference: Mapping[int, float]) -> PairedDifference | None:
    """Compare seed by seed (seed -> score); None if no seed is in both."""
    from scipy.special import stdtr

    seeds = sorted(ours.keys() & reference.keys())
    if not seeds:
        return None
    differences = summarise([ours[seed] - reference[seed] for seed in seeds])
    n, mean = differences.n, differences.mean
    if differences.std is None or math.isnan(mean):
        return PairedDifference(n, mean)
    # equal differences leave a std of rounding errors, not of seeds
    spread = differences.std > 1e-12 * max(1.0, abs(mean))
    p: float | None = 1.0 if abs(mean) < 1e-12 else None
    if spread:
        t = mean / (differences.std / math.sqrt(n))
        p = float(2 * stdtr(n - 1, -abs(t)))
    return PairedDifference(n, mean, differences.low, differences.high, p)


def mcnemar(only_ours: int, only_reference: int) -> float:
    """Exact two-sided McNemar test from the counts of examples that only one of the two got right."""
    from scipy.special import bdtr

    n = only_ours + only_reference
    if n == 0:
        return 1.0
    return min(1.0, 2 * float(bdtr(min(only_ours, only_reference), n, 0.5)))


def combine_dependent(p_values: Sequence[float]) -> float:
    """One p-value from several tests on the same examples: twice the median, valid however they depend."""
    import numpy as np

    if len(p_values) == 1:
        return p_values[0]
    return float(min(1.0, 2 * np.median(p_values)))


def paired_bootstrap(differences: Sequence[float], resamples: int = RESAMPLES) -> float:
    """Two-sided p-value that the mean of paired per-example differences is zero (centred, fixed seed)."""
    import numpy as np

    d = np.asarray(differences, dtype=float)
    observed = d.mean()
    if not np.isfinite(observed):
        return math.nan
    centred = d - observed
    generator = np.random.default_rng(0)
    beyond = 0
    block = max(1, 2_000_000 // len(d))
    for start in range(0, resamples, block):
        count = min(block, resamples - start)
        means = centred[generator.integers(0, len(d), (count, len(d)))].mean(axis=1)
        beyond += int((np.abs(means) >= abs(observed) - 1e-15).sum())
    return (beyond + 1) / (resamples + 1)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down adjustment, in the given order; None and NaN are not tests and stay as they are."""
    tests = sorted((p, i) for i, p in enumerate(p_values) if p is not None and not math.isnan(p))
    adjusted = list(p_values)
    running = 0.0
    for rank, (p, index) in enumerate(tests):
        running = max(running, min(1.0, (len(tests) - rank) * p))
        adjusted[index] = running
    return adjusted
