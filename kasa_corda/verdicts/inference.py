"""Paired differences over seeds, stratified over tasks: estimate, interval and tests."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

LEVEL = 0.05
EXACT = 14
"""up to so many sign flips all are counted, above that ``FLIPS`` are drawn"""
FLIPS = 9999
NO_SPREAD = 1e-12


@dataclass(frozen=True)
class Estimate:
    """The mean over tasks of paired differences.

    ``seed_variance`` is the variance of that mean over draws of seeds, with ``degrees`` of freedom; None where there is
    no spread to judge by (one seed, or the same difference for all). ``example_variance`` is what other examples add.
    """

    mean: float
    seeds: int
    tasks: int
    seed_variance: float | None = None
    degrees: float = 0.0
    std: float | None = None
    example_variance: float = 0.0

    @property
    def effect(self) -> float | None:
        """Mean / standard deviation of the per-seed means."""
        return self.mean / self.std if self.std else None

    @property
    def variance(self) -> float | None:
        return None if self.seed_variance is None else self.seed_variance + self.example_variance

    @property
    def all_degrees(self) -> float:
        """Of ``variance`` (Welch, Satterthwaite); that of the examples counts as known."""
        if not self.seed_variance or self.variance is None:
            return self.degrees
        return self.degrees * (self.variance / self.seed_variance) ** 2

    def interval(self, coverage: float = 1 - LEVEL) -> tuple[float, float] | None:
        """Over seeds and examples."""
        if self.variance is None:
            return None
        half = quantile(self.all_degrees, coverage) * math.sqrt(self.variance)
        return self.mean - half, self.mean + half

    def p(self, threshold: float = 0.0, examples: bool = False) -> float | None:
        """Two-sided p-value that the mean is ``threshold``: over seeds, or over seeds and examples."""
        from scipy.special import stdtr

        variance = self.variance if examples else self.seed_variance
        if variance is None:
            return None
        degrees = self.all_degrees if examples else self.degrees
        return float(2 * stdtr(degrees, -abs(self.mean - threshold) / math.sqrt(variance)))


def estimate(differences: Sequence[Sequence[float]], example_variance: float = 0.0) -> Estimate:
    """Of one row of differences per task, all for the same seeds in the same order.

    Two variances of the mean over tasks and seeds are computed: from the spread within each task (stratified; tasks are
    fixed, degrees of freedom after Welch and Satterthwaite) and from the per-seed means over tasks. The first has more
    degrees of freedom but takes the tasks' draws to be independent; the larger one counts, so that a seed that is lucky
    on all tasks at once isn't counted once per task.
    """
    tasks, seeds = len(differences), len(differences[0])
    rows = [[float(value) for value in row] for row in differences]
    if any(len(row) != seeds for row in rows) or seeds == 0:
        raise ValueError("every task needs a difference for every seed")
    means = [math.fsum(row) / seeds for row in rows]
    mean = math.fsum(means) / tasks
    per_seed = [math.fsum(column) / tasks for column in zip(*rows, strict=True)]
    if seeds == 1 or not math.isfinite(mean):
        return Estimate(mean, seeds, tasks, example_variance=example_variance)
    of_rows = [math.fsum((v - m) ** 2 for v in row) / (seeds - 1) for row, m in zip(rows, means, strict=True)]
    joint = math.fsum((v - mean) ** 2 for v in per_seed) / (seeds - 1) / seeds
    shares = [variance / (seeds * tasks**2) for variance in of_rows]
    stratified = math.fsum(shares)
    std = math.sqrt(joint * seeds)
    scale = max(1.0, *(abs(value) for row in rows for value in row))
    if math.sqrt(max(stratified, joint)) <= NO_SPREAD * scale:
        return Estimate(mean, seeds, tasks, example_variance=example_variance)
    degrees = stratified**2 / (math.fsum(share**2 for share in shares) / (seeds - 1)) if stratified else seeds - 1
    return Estimate(mean, seeds, tasks, max(stratified, joint), degrees, std, example_variance)


def quantile(degrees: float, coverage: float) -> float:
    """Student's t: half-width of a two-sided interval in standard errors; degrees may be fractional."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees, 0.5 + coverage / 2))


def permutation(differences: Sequence[Sequence[float]], threshold: float = 0.0) -> float:
    """Two-sided p-value of the sign-flip test: under 'no difference on any task' every paired difference could as well
    have the other sign. Exact up to ``EXACT`` differences, drawn (fixed seed) above."""
    import numpy as np

    values = np.asarray(differences, dtype=float).ravel() - threshold
    if not np.isfinite(values).all():
        return math.nan
    observed = abs(values.sum())
    tolerance = 1e-12 * max(1.0, float(np.abs(values).sum()))
    beyond = int((np.abs(_signs(len(values)) @ values) >= observed - tolerance).sum())
    if len(values) <= EXACT:
        return beyond / 2 ** len(values)
    return (beyond + 1) / (FLIPS + 1)


@lru_cache(maxsize=8)
def _signs(count: int) -> np.ndarray:
    """(flips, count) of +1 and -1"""
    import numpy as np

    if count <= EXACT:
        return 1.0 - 2.0 * ((np.arange(2**count)[:, None] >> np.arange(count)) & 1)
    return np.random.default_rng(0).choice([-1.0, 1.0], (FLIPS, count))
