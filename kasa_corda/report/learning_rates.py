"""Score on the selection split by learning rate, with its spread over the search seeds, as SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..evaluation.units import factor
from ..search import Family
from .plots import MARKERS, Plot, axis_label, colour, file_name, standalone, svg_of
from .statistics import summarise
from .tables import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class RatePoint:
    """The finished search runs at one learning rate. Scores are fractions where the metric is one."""

    rate: float
    mean: float
    std: float | None
    """sample standard deviation; None of one run"""
    n: int


def curve_of(family: Family) -> list[RatePoint]:
    """One point per rate at which a run finished with a finite score, by rate."""
    points = []
    for rate, scores in sorted(family.trials.items()):
        if scores and all(map(math.isfinite, scores)):
            found = summarise(scores)
            points.append(RatePoint(rate, found.mean, found.std, found.n))
    return points


def learning_rate_curves(families: Sequence[Family], names: Sequence[str] = (), colours: Sequence[int] = ()) -> str:
    """Means with bands of one standard deviation, a ring round the chosen rate; '' if no family has a finished trial.

    names: of the lines, by default the runs' labels. colours: numbers of the lines' colours, by default 0, 1, ...
    """
    names = names or [family.first.label for family in families]
    colours = colours or range(len(families))
    lines = [
        (family, name, number, points)
        for family, name, number in zip(families, names, colours, strict=True)
        if (points := curve_of(family))
    ]
    if not lines:
        return ""
    metrics = dict.fromkeys(family.metric for family, *_ in lines)
    ylabel = " / ".join(axis_label(metric) for metric in metrics)

    def draw(axes: Axes) -> None:
        for family, name, number, points in lines:
            times, ink = factor(family.metric), colour(number)
            rates = [point.rate for point in points]
            means = [times * point.mean for point in points]
            spreads = [times * (point.std or 0.0) for point in points]
            low, high = ([m + sign * s for m, s in zip(means, spreads, strict=True)] for sign in (-1, 1))
            axes.plot(rates, means, color=ink, marker=MARKERS[number % len(MARKERS)], ms=3.5, lw=1.2, label=name)
            axes.fill_between(rates, low, high, color=ink, alpha=0.15, lw=0)
            for point, mean in zip(points, means, strict=True):
                if family.chosen is not None and math.isclose(point.rate, family.chosen, rel_tol=1e-6):
                    axes.plot([point.rate], [mean], marker="o", ms=9, mfc="none", mec=ink, mew=1.2)
        axes.set_xscale("log")
        axes.set_xlabel("learning rate")

    return svg_of(draw, ylabel, f"rates-{len(lines)}", legend=len(lines) > 1)


def rate_plot(table: Table, task: str) -> Plot | None:
    """The curves of every row of a table that a search chose, in the colours of its rows."""
    found = [
        (choice.family, row.name, index)
        for index, row in enumerate(table.rows)
        for choice in row.choices
        if choice.searched and choice.chosen.first.task == task
    ]
    if not found:
        return None
    families, names, colours = zip(*found, strict=True)
    svg = learning_rate_curves(families, names, colours)
    return (
        Plot("Selection score by learning rate (mean and standard deviation over search seeds)", svg) if svg else None
    )


def rate_files(tables: Sequence[Table]) -> dict[str, str]:
    """File name -> SVG of the curves of every task that had a search, each a file of its own."""
    found = ((number, task, rate_plot(table, task)) for number, table in enumerate(tables, 1) for task in table.tasks)
    return {file_name(f"learning rates {number} {task}"): standalone(plot) for number, task, plot in found if plot}
