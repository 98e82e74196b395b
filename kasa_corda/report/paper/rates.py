"""Chapter: learning rates. Which were tried, what they gave on held-out data, and which was chosen."""

from __future__ import annotations

import math

from ...evaluation.units import factor
from .. import format
from ..statistics import summarise
from . import words
from .drawing import Line, lines
from .layout import Cell, Chapter, Drawing, Grid, Heading, columns
from .material import Material
from .settings import Place, Setting

MOST_FIGURES = 24


def chapter(material: Material) -> Chapter:
    found = Chapter("rates", "Learning rates")
    found.say(
        "Every method's rate is chosen on data held out from training, with the same number of trials in a window of"
        " its own: half decades, then quarter decades round the best; an optimum at the edge extends the window. Scores"
        " here are on the selection split, over the search seeds. Lines are means, bands reach from the worst to the"
        " best seed, the ring is the chosen rate. No test score had a part in it."
    )
    drawn = 0
    for place in material.places:
        searched = [setting for setting in place.settings if setting.family.outcomes]
        if not searched:
            continue
        found.blocks.append(Heading(words.slug("rates", place.key), place.title))
        for task in place.tasks:
            if drawn < MOST_FIGURES and (figure := curve(place, task)):
                found.blocks.append(figure)
                drawn += 1
        found.blocks.append(grid(place, searched))
    if not drawn:
        found.say("No run of these belongs to a search.")
    return found


def curve(place: Place, task: str) -> Drawing | None:
    """Selection score by learning rate of every method that was searched on a task."""
    drawn = []
    for setting in sorted(place.on(task), key=lambda s: s.name):
        family, times = setting.family, factor(setting.family.metric)
        trials = {rate: scores for rate, scores in family.trials.items() if scores and all(map(math.isfinite, scores))}
        if not trials:
            continue
        points = tuple((rate, times * sum(v) / len(v), times * min(v), times * max(v)) for rate, v in trials.items())
        marked = tuple(i for i, rate in enumerate(trials) if rate == family.chosen)
        drawn.append(Line(setting.name, points, marked=marked))
    if not drawn:
        return None
    metric = place.on(task)[0].family.metric
    unit = metric if factor(metric) == 1 else f"{metric} x 100"
    return lines(f"{task}, {place.model}: {unit} by learning rate", drawn, "learning rate", unit, log=True)


def grid(place: Place, searched: list[Setting]) -> Grid:
    names = ("Method", "Task", "Rates tried", "Seeds", "Chosen", "Selection score", "Remark", "Rule of alpha")
    rows = []
    for setting in sorted(searched, key=lambda s: (s.name, s.first.task)):
        family = setting.family
        tried = ", ".join(words.rate(rate) for rate in family.outcomes)
        seeds = len({seed for scores in family.outcomes.values() for seed in scores})
        chosen, summary = family.chosen, None
        if chosen is not None and family.trials.get(chosen):
            summary = summarise(family.trials[chosen])
        rows.append(
            [
                Cell(setting.name, heading=True),
                Cell(setting.first.task),
                Cell(tried),
                Cell(str(seeds), seeds),
                Cell(words.rate(chosen), chosen),
                Cell(format.spread(summary, family.metric), summary.mean) if summary else Cell("-"),
                Cell(family.note or "-", state="warning" if family.note else ""),
                Cell(family.alpha_rule or "-"),
            ]
        )
    return Grid(words.slug("searches", place.key), f"Searches, {place.model}", columns(*names), rows)
