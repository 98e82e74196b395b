"""Numbers as a reader wants them. Scores are fractions and shown x 100 with two decimals."""

from __future__ import annotations

import math

from .groups import Group
from .statistics import PairedDifference, Summary

NOTHING = "-"


def percent(value: float | None, sign: bool = False) -> str:
    if value is None:
        return NOTHING
    return "nan" if math.isnan(value) else f"{100 * value:{'+' if sign else ''}.2f}"


def spread(summary: Summary) -> str:
    """'67.12 ± 1.20', or the mean alone for one seed."""
    mean = percent(summary.mean)
    return mean if summary.std is None or math.isnan(summary.mean) else f"{mean} ± {percent(summary.std)}"


def score(group: Group | None, which: str) -> str:
    """A cell: mean ± std (seeds), with what else became of the runs: '67.12 ± 1.20 (2; 1 failed)'."""
    if group is None:
        return NOTHING
    states = [f"{count} {state}" for state, count in group.states().items()]
    summary: Summary | None = getattr(group, which)
    if summary is None:
        return ", ".join(states) or NOTHING
    return f"{spread(summary)} ({'; '.join([str(summary.n), *states])})"


def difference(paired: PairedDifference) -> str:
    """'+1.23 [-0.40, +2.86]'"""
    mean = percent(paired.mean, sign=True)
    if paired.low is None or math.isnan(paired.mean):
        return mean
    return f"{mean} [{percent(paired.low, sign=True)}, {percent(paired.high, sign=True)}]"


def p_value(p: float | None) -> str:
    if p is None or math.isnan(p):
        return NOTHING
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def count(value: float | None) -> str:
    """'294.9 K', '1.19 M': parameters."""
    if value is None:
        return NOTHING
    for unit, size in (("B", 1e9), ("M", 1e6), ("K", 1e3)):
        if value >= size:
            return f"{value / size:.{1 if value >= 100 * size else 2}f} {unit}"
    return f"{value:.0f}"


def seconds(value: float | None) -> str:
    if value is None:
        return NOTHING
    return f"{value:.1f} s" if value < 100 else f"{value:,.0f} s"


def memory(value: float | None) -> str:
    return NOTHING if value is None else f"{value / 2**30:.2f} GiB"


def plain_number(value: float | None) -> str:
    return NOTHING if value is None else f"{value:,.1f}"
