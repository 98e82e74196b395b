"""Numbers as a reader wants them. Scores are fractions and shown x 100 with two decimals."""

from __future__ import annotations

import math

from ..evaluation.judge import METRICS, NOT_JUDGED
from ..evaluation.units import factor
from ..search import Family
from .groups import Group
from .statistics import PairedDifference, Summary

NOTHING = "-"


def heading(task: str, metric: str) -> str:
    """'glue/rte (accuracy)'; a column that is named for its metric keeps its name."""
    return task if task.endswith(f"({metric})") else f"{task} ({metric})"


def percent(value: float | None, sign: bool = False, decimals: int = 2, metric: str = "") -> str:
    """A score x 100, or as it is where its ``metric`` is no fraction."""
    if value is None:
        return NOTHING
    return "nan" if math.isnan(value) else f"{factor(metric) * value:{'+' if sign else ''}.{decimals}f}"


def missing(metric: str) -> str:
    """What stands in the place of a score that could not be computed."""
    return NOT_JUDGED if metric.endswith(METRICS) else "nan"


def decimals(mean: float | None) -> int:
    """Two, but three for scores below one in a hundred (likelihoods of answers that a model hardly knows)."""
    return 3 if mean is not None and 0 < abs(mean) < 0.01 else 2


def spread(summary: Summary, metric: str = "") -> str:
    """'67.12 ± 1.20', or the mean alone for one seed."""
    digits = decimals(summary.mean)
    mean = percent(summary.mean, decimals=digits, metric=metric)
    unknown = summary.std is None or math.isnan(summary.mean)
    return mean if unknown else f"{mean} ± {percent(summary.std, decimals=digits, metric=metric)}"


def score(group: Group | None, which: str) -> str:
    """A cell: mean ± std (seeds), with what else became of the runs: '67.12 ± 1.20 (2; 1 failed)'."""
    if group is None:
        return NOTHING
    states = [f"{count} {state}" for state, count in group.states().items()]
    summary: Summary | None = getattr(group, which)
    if summary is None:
        return ", ".join(states) or NOTHING
    metric = group.first.select_metric if which == "selected" else group.first.metric
    shown = missing(metric) if math.isnan(summary.mean) else spread(summary, metric)
    return f"{shown} ({'; '.join([str(summary.n), *states])})"


def difference(paired: PairedDifference, decimals: int = 2, metric: str = "") -> str:
    """'+1.23 [-0.40, +2.86]'"""
    mean, low, high = (percent(value, True, decimals, metric) for value in (paired.mean, paired.low, paired.high))
    return mean if paired.low is None or math.isnan(paired.mean) else f"{mean} [{low}, {high}]"


def alpha(family: Family) -> str:
    """'fixed 16, scale 2': what a learning rate depends on."""
    return NOTHING if family.alpha_rule is None else f"{family.alpha_rule}, scale {family.scale:.3g}"


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
