"""Mean and standard deviation of a share over m runs: both come from m whole numbers of right answers.

The idea is that of GRIM and GRIMMER (Brown and Heathers 2017; Anaya 2016): with counts k_1..k_m of n, the mean fixes
the sum T and the deviation the sum of squared deviations D = sum k_i^2 - T^2 / m. Not every D belongs to a T.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import product

import numpy as np

from .finding import Finding, name_of
from .printed import Printed, printed
from .reading import SHARES, Reading, is_number
from .shares import counts_between, ranges

CHECK = "mean and std of k/n"
UNSTATED = range(2, 11)
"""numbers of runs that are tried where none is stated"""
ENUMERATED = 40
"""deviations in counts up to which all runs of up to four are gone through; a wider spread leaves no gaps"""


def check_spreads(readings: Sequence[Reading]) -> Iterator[Finding]:
    """Standard deviations that no such runs have; both ways of dividing (m - 1 and m) are allowed."""
    for reading in readings:
        if not is_number(reading.cell.std):
            continue
        spread = printed(reading.cell.std, reading.printed.unit)
        if spread.value < 0:
            sentence = f"{name_of(reading.cell)}: the standard deviation {spread.text} is negative."
            yield Finding("impossible", CHECK, (reading.cell,), sentence)
        elif reading.kind in SHARES and reading.set is not None:
            yield from _of_counts(reading, spread)


def attainable(mean: Printed, spread: Printed, size: int, runs: int) -> bool:
    """Whether ``runs`` scores over ``size`` examples have a mean and a standard deviation that are printed so."""
    return any(
        _deviation_exists(total, runs, *_squares(spread, size, runs, divisor), size)
        for total in counts_between(mean, size * runs)
        for divisor in ((runs - 1, runs) if runs > 1 else (1,))
    )


def _of_counts(reading: Reading, spread: Printed) -> Iterator[Finding]:
    assert reading.set is not None
    size, mean = reading.set.size, reading.printed
    what = f"{name_of(reading.cell)} = {mean.text} with std {spread.text}"
    if reading.runs is None:
        fits = [m for m in UNSTATED if attainable(mean, spread, size, m)]
        if len(fits) < len(UNSTATED):
            excluded = ranges([m for m in UNSTATED if m not in fits])
            sentence = f"{what} over {size} examples can't be of {excluded} runs; how many there were is not stated."
            yield Finding("notice" if fits else "unstated", CHECK, (reading.cell,), sentence)
    elif reading.runs == 1 and spread.low > 0:
        sentence = f"{what} is said to be of one run, which has no standard deviation."
        yield Finding("inconsistent", CHECK, (reading.cell,), sentence)
    elif (
        reading.runs > 1
        and counts_between(mean, size * reading.runs)
        and not attainable(mean, spread, size, reading.runs)
    ):
        near = _nearest(mean, spread, size, reading.runs)
        sentence = (
            f"{what}: no {reading.runs} whole numbers of right answers of {size} have this mean and this standard "
            f"deviation (divided by m - 1 or by m); the nearest with this mean is {near}."
        )
        yield Finding("impossible", CHECK, (reading.cell,), sentence)


def _squares(spread: Printed, size: int, runs: int, divisor: int) -> tuple[float, float]:
    """Lowest and highest sum of squared deviations, in counts."""
    low, high = max(0.0, float(spread.low)) * size, float(spread.high) * size
    return low * low * divisor, high * high * divisor


def _deviation_exists(total: int, runs: int, low: float, high: float, size: int) -> bool:
    if high > size * size * runs / 4 + runs:
        high = size * size * runs / 4 + runs  # half the runs all wrong, half all right
    slack = 1e-9 * max(1.0, high)
    if runs == 1:
        return low <= slack
    if runs <= 4 and math.sqrt(high) <= ENUMERATED:
        found = _deviations(total % runs, runs)
        return bool(((found >= low - slack) & (found <= high + slack)).any())
    # sum k^2 has the parity of T, and D is smallest where the counts differ by at most 1
    rest = total % runs
    smallest = rest * (runs - rest) / runs
    first = math.ceil((max(low, smallest) - smallest - slack) / 2)
    return smallest + 2 * first <= high + slack


@cache
def _deviations(rest: int, runs: int) -> np.ndarray:
    """Every D of ``runs`` whole numbers whose sum leaves ``rest``, up to deviations of ENUMERATED."""
    reach = np.arange(-ENUMERATED - 1, ENUMERATED + 2)
    axes = np.meshgrid(*[reach] * (runs - 1), indexing="ij", sparse=True)
    last = rest - sum(axes)
    squares = sum(axis * axis for axis in axes) + last * last
    return np.unique(squares) - rest * rest / runs


def _nearest(mean: Printed, spread: Printed, size: int, runs: int) -> str:
    """The possible deviation closest to the printed one, as the source would print it."""
    target, candidates = float(spread.value), []
    for total, divisor in product(counts_between(mean, size * runs), (runs - 1, runs)):
        wanted = (target * size) ** 2 * divisor
        rest = total % runs
        smallest = rest * (runs - rest) / runs
        found = _deviations(rest, runs) if runs <= 4 else smallest + 2 * np.arange(0, max(2, wanted) + 2)
        candidates.append(math.sqrt(float(found[np.abs(found - wanted).argmin()]) / divisor) / size)
    return spread.shown(min(candidates, key=lambda value: abs(value - target)))
