"""Chapter: score against trained parameters, training time and memory, with the rows that none beats in both."""

from __future__ import annotations

import math

from ...evaluation.units import factor
from .. import format
from ..pareto import Point, front
from . import words
from .drawing import points
from .layout import Cell, Chapter, Drawing, Grid, Heading, columns
from .material import Material
from .settings import Place

COSTS = {
    "trained parameters": ("parameters", "trainable"),
    "seconds of training": ("seconds", "fit"),
    "peak memory, GiB": ("peak_memory_bytes", "device"),
}
MOST_FIGURES = 30
SHOWN = {
    "trained parameters": format.count,
    "seconds of training": format.seconds,
    "peak memory, GiB": lambda value: f"{value:.2f} GiB",
}


def chapter(material: Material) -> Chapter:
    found = Chapter("pareto", "Score against cost")
    found.say(
        "The line joins the settings that no other beats in mean score and cost at once. Means over few seeds: one"
        " beside the line may be as good. At the tuned learning rate where there is one. Memory is the device's where"
        " there was one, else the host's; time depends on what else ran."
    )
    drawn = 0
    for place in material.places:
        figures, rows = [], []
        for task in place.tasks:
            for cost in COSTS:
                every = candidates(place, task, cost)
                if len(every) < 2:
                    continue
                first = place.on(task)[0].first
                best = front(every, first.higher_is_better)
                rows.append(_row(task, cost, best, first.metric))
                if drawn < MOST_FIGURES:
                    figures.append(_figure(place, task, cost, every, best))
                    drawn += 1
        if rows:
            found.blocks += [Heading(words.slug("pareto", place.key), place.title), *figures]
            names = columns("Task", "Cost", "Not beaten in both, the cheapest first")
            found.blocks.append(Grid(words.slug("fronts", place.key), f"Fronts, {place.model}", names, rows))
    if not drawn:
        found.say("Fewer than two settings can be compared.")
    return found


def candidates(place: Place, task: str, cost: str) -> list[Point]:
    """Every setting on a task with a score and a cost above zero."""
    found = []
    for index, setting in enumerate(sorted(place.on(task), key=lambda s: s.name)):
        row = setting.row()
        if row is None or row[2].best is None or math.isnan(row[2].best.mean):
            continue
        group, best = row[2], row[2].best
        value = group.mean(*COSTS[cost])
        if cost.startswith("peak memory"):
            value = value if value is not None else group.mean("peak_memory_bytes", "host")
            value = None if value is None else value / 2**30
        if value is not None and value > 0:
            found.append(Point(index, setting.name, value, best.mean, best.std))
    return found


def _figure(place: Place, task: str, cost: str, every: list[Point], best: list[Point]) -> Drawing:
    metric = place.on(task)[0].first.metric
    times = factor(metric)
    drawn = [(p.name, p.cost, times * p.score, times * p.std if p.std else None) for p in every]
    unit = metric if times == 1 else f"{metric} x 100"
    return points(f"{task}, {place.model}: {unit} by {cost}", drawn, {p.name for p in best}, cost, unit)


def _row(task: str, cost: str, best: list[Point], metric: str) -> list[Cell]:
    names = [f"{p.name}: {format.percent(p.score, metric=metric)} ({SHOWN[cost](p.cost)})" for p in best]
    return [Cell(task, heading=True), Cell(cost), Cell("; ".join(names))]
