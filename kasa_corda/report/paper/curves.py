"""Chapter: learning curves. Training loss and the selecting score by step, over the seeds of a row."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from ...evaluation.units import factor
from ...store import RunDirectory
from ..groups import Group
from ..plots import Curve, read_curve
from . import words
from .drawing import MOST_LINES, Line, lines
from .layout import Chapter, Drawing, Heading
from .material import Material
from .settings import Place

MOST_TASKS = 24
MOST_SEEDS = 5


def chapter(material: Material) -> Chapter:
    found = Chapter("curves", "Learning curves")
    found.say(
        f"At the tuned learning rate where there is one. Lines are means over up to {MOST_SEEDS} seeds, bands reach"
        " from the lowest to the highest; the training loss is the task's part, without a method's own penalty."
    )
    left_out, drawn = 0, 0
    for place in material.places:
        figures: list[Drawing] = []
        for task in place.tasks:
            if drawn >= MOST_TASKS:
                left_out += 1
                continue
            several = task_figures(place, task)
            figures += several
            drawn += bool(several)
        if figures:
            found.blocks += [Heading(words.slug("curves", place.key), place.title), *figures]
    if left_out:
        found.say(f"{left_out} more tasks have no curves here; a report of fewer runs has them.", soft=True)
    if not drawn:
        found.say("No finished run has a metrics.jsonl.")
    return found


def task_figures(place: Place, task: str) -> list[Drawing]:
    """Loss and selecting score of the methods on one task; plain settings before those with a longer name."""
    rows = [(s.name, row[2]) for s in place.on(task) if (row := s.row()) and row[1] is not None]
    rows = sorted(rows, key=lambda row: (row[0].count("="), row[0]))[:MOST_LINES]
    curves = {name: read(group) for name, group in rows}
    metric = rows[0][1].first.select_metric if rows else ""
    unit = metric if factor(metric) == 1 else f"{metric} x 100"
    found = []
    for which, label in (("loss", "training loss"), ("score", f"{unit} on the selection split")):
        drawn = [
            Line(name, points, index=index)
            for index, (name, several) in enumerate(curves.items())
            if (points := averaged([getattr(curve, which) for curve in several]))
        ]
        if drawn:
            found.append(
                lines(
                    f"{task}, {place.model}: {label} by step",
                    drawn,
                    "step",
                    label.removesuffix(" on the selection split"),
                )
            )
    return found


def read(group: Group) -> list[Curve]:
    curves = []
    for run in group.finished[:MOST_SEEDS]:
        try:
            curves.append(read_curve(RunDirectory(run.path).metrics(), run.select_metric))
        except (OSError, ValueError):
            continue
    return curves


def averaged(
    several: Sequence[Sequence[tuple[float, float]]],
) -> tuple[tuple[float, float, float | None, float | None], ...]:
    """Mean, lowest and highest at every step that all seeds have (or at every step, if there is none in common)."""
    values: dict[float, list[float]] = defaultdict(list)
    for points in several:
        for step, value in points:
            values[step].append(value)
    full = max((len(v) for v in values.values()), default=0)
    return tuple(
        (step, sum(v) / len(v), min(v) if len(v) > 1 else None, max(v) if len(v) > 1 else None)
        for step, v in sorted(values.items())
        if len(v) == full
    )
