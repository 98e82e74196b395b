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

from ..store import RunDirectory
from .groups import Group
from .tables import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#3b82c4", "#e07b39", "#3fa66b", "#c05299", "#8d7bd8", "#b59b2a", "#3aa6a6", "#d1545b", "#8a8f98", "#7a5c3e")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
INK = "#010203"
MOST_SEEDS = 5


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
    """Loss, selection score and score against trainable parameters of every row on one task."""
    rows = [(index, row.groups[task]) for index, row in enumerate(table.rows) if task in row.groups]
    metric = table.metrics[task]
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
        plots.append(Plot(title, _lines(curves, "score", f"{selecting} x 100")))
    costs = [(i, g) for i, g in rows if g.best and (g.mean("parameters", "trainable") or 0) > 0]
    if costs:
        plots.append(Plot(f"{metric} against trainable parameters", _costs(costs, metric)))
    return plots


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
                score[step] = 100 * value
    return Curve(sorted(loss.items()), sorted(score.items()))


def _curves(group: Group) -> list[Curve]:
    curves = []
    for run in (group.finished + group.unfinished)[:MOST_SEEDS]:
        try:
            curves.append(read_curve(RunDirectory(run.path).metrics(), run.select_metric))
        except (OSError, ValueError):
            continue
    return curves


def _lines(curves: Sequence[tuple[int, list[Curve]]], which: str, ylabel: str) -> str:
    def draw(axes: Axes) -> None:
        for index, several in curves:
            for curve in several:
                points = getattr(curve, which)
                if points:
                    marker = MARKERS[index % len(MARKERS)] if which == "score" or len(points) == 1 else None
                    axes.plot(*zip(*points, strict=True), color=colour(index), marker=marker, ms=3.5, lw=1.2, alpha=0.8)
        axes.set_xlabel("step")

    return _svg(draw, ylabel, f"{which}-{len(curves)}")


def _costs(groups: Sequence[tuple[int, Group]], metric: str) -> str:
    def draw(axes: Axes) -> None:
        sizes = []
        for index, group in groups:
            if group.best is None or math.isnan(group.best.mean):
                continue
            size = group.mean("parameters", "trainable") or 0
            sizes.append(size)
            error = 100 * group.best.std if group.best.std else None
            shape: dict[str, Any] = {"color": colour(index), "marker": MARKERS[index % len(MARKERS)], "ms": 7}
            axes.errorbar(size, 100 * group.best.mean, yerr=error, lw=1.2, capsize=3, **shape)
        axes.set_xlabel("trainable parameters")
        if sizes:
            axes.set_xscale("log")
            axes.set_xlim(min(sizes) / 2, max(sizes) * 2)
            ticks = _decades(min(sizes) / 2, max(sizes) * 2)
            axes.set_xticks(ticks, [_short(tick) for tick in ticks])
            axes.minorticks_off()

    return _svg(draw, f"{metric} x 100", "costs")


def _svg(draw: Any, ylabel: str, salt: str) -> str:
    """Draw on empty axes; return bare <svg> markup that inherits colour and font from the page."""
    import matplotlib
    from matplotlib.figure import Figure

    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
    ink = dict.fromkeys(("axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color", "text.color"), INK)
    style: dict[str, Any] = {"svg.fonttype": "none", "svg.hashsalt": salt, "font.size": 9, "axes.grid": True}
    style |= {"grid.color": INK, "grid.alpha": 0.12, "axes.spines.top": False, "axes.spines.right": False}
    with matplotlib.rc_context(ink | style), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        figure = Figure(figsize=(4.2, 2.9), layout="constrained")
        axes = figure.add_subplot()
        draw(axes)
        axes.set_ylabel(ylabel, parse_math=False)
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


def _decades(low: float, high: float) -> list[float]:
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
