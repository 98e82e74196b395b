"""Score against cost: which rows no other row beats in both."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from . import format
from .grids import Grid, Text
from .tables import Table

COSTS = {"trainable parameters": ("parameters", "trainable"), "seconds of training": ("seconds", "fit")}
"""name of a cost -> where result.json has it"""


@dataclass(frozen=True)
class Point:
    """One row of a table on one task: means over its seeds."""

    index: int
    """of the row in its table"""
    name: str
    cost: float
    score: float
    std: float | None


def points(table: Table, task: str, cost: str) -> list[Point]:
    """Every row with a score and a cost above zero."""
    found = []
    for index, row in enumerate(table.rows):
        group = row.groups.get(task)
        best = group.best if group else None
        value = group.mean(*COSTS[cost]) if group else None
        if best is not None and not math.isnan(best.mean) and value is not None and value > 0:
            found.append(Point(index, row.name, value, best.mean, best.std))
    return found


def front(candidates: Sequence[Point], higher_is_better: bool = True) -> list[Point]:
    """Points for which no other is at least as good and as cheap, and better in one of them; the cheapest first."""
    sign = 1 if higher_is_better else -1
    kept: list[Point] = []
    for point in sorted(candidates, key=lambda p: (p.cost, -sign * p.score)):
        equal = bool(kept) and (point.cost, point.score) == (kept[-1].cost, kept[-1].score)
        if not kept or sign * point.score > sign * kept[-1].score or equal:
            kept.append(point)
    return kept


def fronts(table: Table) -> dict[tuple[str, str], tuple[list[Point], list[Point]]]:
    """(task, cost) -> all points and those on the front, wherever several rows can be compared."""
    found = {}
    for task, metric in table.metrics.items():
        for cost in COSTS:
            every = points(table, task, cost)
            if len(every) > 1 and "/" not in metric:
                found[task, cost] = every, front(every, higher_is_better(table, task))
    return found


def higher_is_better(table: Table, task: str) -> bool:
    return next(row.groups[task].first.higher_is_better for row in table.rows if task in row.groups)


def front_grid(table: Table) -> Grid:
    """The fronts as text: one row per task and cost."""
    amounts = {"trainable parameters": format.count, "seconds of training": format.seconds}
    rows = []
    for (task, cost), (_, best) in fronts(table).items():
        names = [
            f"{p.name} {format.percent(p.score, decimals=format.decimals(p.score), metric=table.metrics[task])}"
            f" ({amounts[cost](p.cost)})"
            for p in best
        ]
        rows.append([Text(task), Text(cost), Text("; ".join(names))])
    return ["Task", "Cost", "Mean score x 100 (cost), the cheapest first"], rows
