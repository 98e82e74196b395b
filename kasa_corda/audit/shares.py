"""Accuracy, exact match and pass@1: k right answers of n, or the mean of m such scores, K of n m."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from .finding import Finding, name_of
from .printed import DOUBLE, Printed, one_digit_away, printed
from .reading import SHARES, Reading

CHECK = "accuracy = k/n"
LIMIT = 50
"""numbers of runs that are tried where none is stated"""
CHANCE = 0.05
"""a neighbour one digit away is named if fewer than this many would be possible by chance"""


def check_shares(readings: Sequence[Reading]) -> Iterator[Finding]:
    """Shares that no whole number of right answers gives."""
    open_columns: dict[tuple[str, ...], list[Reading]] = defaultdict(list)
    for reading in readings:
        if reading.kind not in SHARES or reading.set is None:
            continue
        if reading.printed.high < 0 or reading.printed.low > 1:
            continue  # the range check says so
        if reading.runs is None:
            cell = reading.cell
            open_columns[cell.paper, cell.kind, cell.table, cell.task, reading.kind].append(reading)
        elif not possible(reading.printed, reading.set.size * reading.runs):
            yield Finding("impossible", CHECK, (reading.cell,), _sentence(reading, reading.runs))
    for column in open_columns.values():
        failing = [r for r in column if r.set and not possible(r.printed, r.set.size)]
        for reading in failing:
            yield Finding("unstated", CHECK, (reading.cell,), _unstated(reading))
        if len(failing) > 1:
            yield _column(column)


def possible(number: Printed, total: int) -> bool:
    """Whether some k of ``total`` is printed so."""
    return bool(counts_between(number, total))


def counts_between(number: Printed, total: int) -> range:
    """Every k for which k / ``total`` could be printed as ``number``."""
    return range(max(0, math.ceil(number.low * total)), min(total, math.floor(number.high * total)) + 1)


def runs_that_fit(numbers: Iterable[Printed], size: int, limit: int = LIMIT) -> list[int]:
    """Every m up to ``limit`` for which all numbers can be means of m scores over ``size`` examples."""
    numbers = list(numbers)
    return [m for m in range(1, limit + 1) if all(possible(number, size * m) for number in numbers)]


def only_rounded(number: Printed) -> Printed:
    """The same number if it can't have been cut."""
    return replace(number, high=min(number.high, 2 * number.value - number.low))


def can_fail(number: Printed, total: int) -> bool:
    """Whether the check can find anything: the numbers printable so are narrower than the steps of 1 / ``total``."""
    return (number.high - number.low) * total < 1


def _sentence(reading: Reading, runs: int) -> str:
    assert reading.set is not None
    number, total = reading.printed, reading.set.size * runs
    over = f"{runs} runs" if runs > 1 else "one run" + (" with one sample a task" if reading.kind == "pass@1" else "")
    over += f" on {reading.set.size} examples"
    below = max(0, min(total, math.floor(number.value * total)))
    above = min(total, below + 1)
    sentence = (
        f"{name_of(reading.cell)} = {number.text} can't be the score of {over}: x {total} = "
        f"{float(number.value * total):.3f} is near no whole number of right answers; the nearest possible values are "
        f"{below}/{total} = {number.shown(below / total)} and {above}/{total} = {number.shown(above / total)}"
    )
    variants = [printed(text, number.unit, precision=DOUBLE) for text in one_digit_away(number.text)]
    near = [variant for variant in variants if possible(variant, total)]
    if near and sum(float((variant.high - variant.low) * total) for variant in variants) < CHANCE:
        sentence += "; one digit away from "
        sentence += " and ".join(f"{one.text} = {counts_between(one, total)[0]}/{total}" for one in near)
    return sentence + "."


def _unstated(reading: Reading) -> str:
    assert reading.set is not None
    size = reading.set.size
    fits = runs_that_fit([reading.printed], size)
    return (
        _sentence(reading, 1)[:-1]
        + f". As the mean of m equal-sized runs or samples it is possible for {_fitting(fits)}; how many were averaged"
        + " is not stated."
    )


def _column(column: Sequence[Reading]) -> Finding:
    first = column[0]
    assert first.set is not None
    fits = runs_that_fit((r.printed for r in column), first.set.size)
    rounded = runs_that_fit((only_rounded(r.printed) for r in column), first.set.size)
    cell = first.cell
    uncut = f"m = {ranges(rounded)}" if rounded else f"no m up to {LIMIT}"
    sentence = (
        f"{cell.paper}, {cell.table}: if all {len(column)} values of {cell.task} ({cell.metric}, {first.set.size} "
        f"examples) are means of the same number m of runs or samples, that is possible for {_fitting(fits)}. If "
        f"they are rounded, not cut, it is possible for {uncut}."
    )
    return Finding("unstated", "same number of runs", tuple(r.cell for r in column), sentence)


def _fitting(fits: Sequence[int], limit: int = LIMIT) -> str:
    """'m = 4, 8, 9 of those up to 50 (excluded: 1 to 3, 5 to 7, 10 to 50)'."""
    excluded = [m for m in range(1, limit + 1) if m not in set(fits)]
    if not fits:
        return f"no m up to {limit}"
    if not excluded:
        return f"every m up to {limit}"
    return f"m = {ranges(fits)} of those up to {limit} (excluded: {ranges(excluded)})"


def ranges(numbers: Sequence[int]) -> str:
    """'1 to 3, 5, 7 to 9'."""
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ", ".join(f"{a}" if a == b else f"{a} to {b}" if b > a + 1 else f"{a}, {b}" for a, b in spans)
