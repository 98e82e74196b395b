"""Training curves and score against parameters as inline SVG that follows the page's colours."""

from __future__ import annotations

import io
import logging
import math
import re
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeGuard

from ..evaluation.units import factor
from ..store import RunDirectory
from .groups import Group
from .pareto import COSTS, Point, front, higher_is_better, points
from .tables import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#3b82c4", "#e07b39", "#3fa66b", "#c05299", "#8d7bd8", "#b59b2a", "#3aa6a6", "#d1545b", "#8a8f98", "#7a5c3e")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
INK = "#010203"
MOST_SEEDS = 5
MANY = 12
"""points above which a plot of score against cost is larger and its points are smaller"""


@dataclass(frozen=True)
class Curve:
    """The curves of one run: training loss and selection score by step."""

    loss: list[tuple[float, float]]
    score: list[tuple[float, float]]


@dataclass(frozen=True)
class Plot:
    title: str
    svg: str


def task_plots(table: Table, task: str) -> list[Plot]:
    """Loss, selection score, and score against trainable parameters and time, of every row on one task."""
    rows = [(index, row.groups[task]) for index, row in enumerate(table.rows) if task in row.groups]
    # the curves of a run are the same whichever of its metrics a column shows
    own = [
        (index, group)
        for index, group in rows
        if not group.first.split and group.first.metric == group.first.own_metric
    ]
    curves = [(index, _curves(group)) for index, group in own]
    selecting = " / ".join(dict.fromkeys(group.first.select_metric for _, group in own))
    plots = []
    if any(curve.loss for _, several in curves for curve in several):
        plots.append(Plot("Training loss (task part) by step", _lines(curves, "loss", "training loss")))
    if any(curve.score for _, several in curves for curve in several):
        title = f"{selecting} on the selection split by step"
        plots.append(Plot(title, _lines(curves, "score", axis_label(selecting))))
    return plots + cost_plots(table, task)


def colour(index: int) -> str:
    return COLOURS[index % len(COLOURS)]


def read_curve(events: Iterable[dict[str, Any]], metric: str) -> Curve:
    """Points of metrics.jsonl; of a step written twice (a resumed run) the later one counts."""
    loss: dict[float, float] = {}
    score: dict[float, float] = {}
    for event in events:
        step = event.get("step") if isinstance(event, dict) else None
        if not _finite(step):
            continue
        if event.get("event") == "train" and _finite(value := event.get("task_loss", event.get("loss"))):
            loss[step] = value
        elif event.get("event") == "evaluate":
            scores = event.get("select") or event.get("scores")
            if isinstance(scores, dict) and _finite(value := scores.get(metric)):
                score[step] = factor(metric) * value
    return Curve(sorted(loss.items()), sorted(score.items()))


def _curves(group: Group) -> list[Curve]:
    curves = []
    for run in (group.finished + group.unfinished)[:MOST_SEEDS]:
        try:
            curves.append(read_curve(RunDirectory(run.path).metrics(), run.select_metric))
        except (OSError, ValueError):
            continue
    return curves


def axis_label(metric: str) -> str:
    return metric if factor(metric) == 1 else f"{metric} x 100"


def _lines(curves: Sequence[tuple[int, list[Curve]]], which: str, ylabel: str) -> str:
    def draw(axes: Axes) -> None:
        for index, several in curves:
            for curve in several:
                points = getattr(curve, which)
                if points:
                    marker = MARKERS[index % len(MARKERS)] if which == "score" or len(points) == 1 else None
                    axes.plot(*zip(*points, strict=True), color=colour(index), marker=marker, ms=3.5, lw=1.2, alpha=0.8)
        axes.set_xlabel("step")

    return svg_of(draw, ylabel, f"{which}-{len(curves)}")


def cost_plots(table: Table, task: str) -> list[Plot]:
    """Score against each cost, with the rows that none beats in both joined and named."""
    metric = table.metrics[task]
    found = []
    for cost in COSTS:
        if every := points(table, task, cost):
            best = front(every, higher_is_better(table, task)) if len(every) > 1 else []
            found.append(Plot(f"{metric} against {cost}", _costs(every, best, metric, cost)))
    return found


def plot_files(tables: Sequence[Table]) -> dict[str, str]:
    """File name -> SVG of every plot of score against cost, each a file of its own."""
    files = {}
    for number, table in enumerate(tables, 1):
        for task in table.tasks:
            for plot in cost_plots(table, task):
                files[file_name(f"pareto {number} {task} {plot.title.split()[-1]}")] = standalone(plot)
    return files


def file_name(title: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", title).strip("-") + ".svg"


def standalone(plot: Plot) -> str:
    """The plot as a file of its own."""
    return plot.svg.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1)


def _costs(every: Sequence[Point], best: Sequence[Point], metric: str, cost: str) -> str:
    times = factor(metric)

    def draw(axes: Axes) -> None:
        for point in every:
            shape: dict[str, Any] = {"color": colour(point.index), "marker": MARKERS[point.index % len(MARKERS)]}
            error = times * point.std if point.std else None
            size = 7 if len(every) <= MANY else 4
            axes.errorbar(point.cost, times * point.score, yerr=error, lw=1, capsize=2, ms=size, **shape)
        axes.plot([p.cost for p in best], [times * p.score for p in best], drawstyle="steps-post", color=INK, lw=0.8)
        for point in every:
            look: dict[str, Any] = {"fontsize": 7} if point in best else {"fontsize": 5.5, "alpha": 0.65}
            look |= {"xytext": (3, 3), "textcoords": "offset points", "parse_math": False}
            axes.annotate(point.name, (point.cost, times * point.score), **look)
        costs = [point.cost for point in every]
        axes.set_xlabel(cost)
        axes.set_xscale("log")
        axes.set_xlim(min(costs) / 2, max(costs) * 2)
        ticks = decades(min(costs) / 2, max(costs) * 2)
        axes.set_xticks(ticks, [_short(tick) for tick in ticks])
        axes.minorticks_off()

    return svg_of(draw, axis_label(metric), f"costs {cost}", (4.2, 2.9) if len(every) <= MANY else (7.0, 4.6))


def svg_of(draw: Any, ylabel: str, salt: str, inches: tuple[float, float] = (4.2, 2.9), legend: bool = False) -> str:
    """Draw on empty axes; return bare <svg> markup that inherits colour and font from the page."""
    import matplotlib
    from matplotlib.figure import Figure

    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
    ink = dict.fromkeys(("axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color", "text.color"), INK)
    style: dict[str, Any] = {"svg.fonttype": "none", "svg.hashsalt": salt, "font.size": 9, "axes.grid": True}
    style |= {"grid.color": INK, "grid.alpha": 0.12, "axes.spines.top": False, "axes.spines.right": False}
    with matplotlib.rc_context(ink | style), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        figure = Figure(figsize=inches, layout="constrained")
        axes = figure.add_subplot()
        draw(axes)
        axes.set_ylabel(ylabel, parse_math=False)
        if legend:
            axes.legend(fontsize=6.5, frameon=False)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return _inline(buffer.getvalue())


def _inline(svg: str) -> str:
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", svg).replace("xlink:href", "href")
    svg = re.sub(r'\sid="[A-Za-z.]+_\d+"', "", svg)
    svg = re.sub(r'\s(width|height)="[\d.]+pt"', "", svg, count=2)
    return svg.replace(INK, "currentColor").replace("<svg", '<svg role="img"', 1)


def decades(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten inside the range, at most six of them."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks: list[float] = [m * 10.0**p for p in powers for m in (1, 2, 5) if low <= m * 10.0**p <= high]
    return ticks if len(ticks) <= 6 else [t for t in ticks if math.isclose(math.log10(t), round(math.log10(t)))]


def _short(size: float) -> str:
    for unit, scale in (("B", 1e9), ("M", 1e6), ("K", 1e3)):
        if size >= scale:
            return f"{size / scale:g} {unit}"
    return f"{size:g}"


def _finite(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
