"""Figures as inline SVG that follows the page's colours: the same bytes for the same numbers."""

from __future__ import annotations

import hashlib
import html
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..plots import MARKERS, colour, decades, svg_of
from .layout import Drawing

MOST_LINES = 12
NARROW = 4
"""costs within this factor of each other have a plain axis"""
NAMED = 14
"""points beside the front that are named in the plot; more would cover each other"""


@dataclass(frozen=True)
class Line:
    """Points of one method: (x, mean, low, high), where low and high are the spread over seeds if there is any."""

    name: str
    points: tuple[tuple[float, float, float | None, float | None], ...]
    dashed: bool = False
    marked: tuple[int, ...] = ()
    """indices of points to be ringed"""
    index: int | None = None
    """whose colour and marker; None counts on"""


def lines(title: str, drawn: Sequence[Line], x: str, y: str, *, log: bool = False, described: str = "") -> Drawing:
    """Lines with their spread as bands."""

    def draw(axes: Any) -> None:
        for place, line in enumerate(drawn[:MOST_LINES]):
            index = place if line.index is None else line.index
            xs, ys = [p[0] for p in line.points], [p[1] for p in line.points]
            look = {"color": colour(index), "marker": MARKERS[index % len(MARKERS)] if len(xs) <= 40 else None}
            axes.plot(xs, ys, ls="--" if line.dashed else "-", ms=3.5, lw=1.3, label=line.name, **look)
            spread = [(p[0], p[2], p[3]) for p in line.points if p[2] is not None and p[3] is not None]
            if len(spread) > 1:
                axes.fill_between(*zip(*spread, strict=True), color=colour(index), alpha=0.13, lw=0)
            elif spread:
                at, low, high = spread[0]
                axes.plot([at, at], [low, high], color=colour(index), lw=1)
            for i in line.marked:
                ring = {"mfc": "none", "mec": colour(index), "marker": "o", "ms": 9, "mew": 1.2}
                axes.plot([xs[i]], [ys[i]], ls="none", **ring)
        axes.set_xlabel(x)
        if y == "perplexity":
            axes.set_yscale("log")
        if log:
            _log(axes, [p[0] for line in drawn for p in line.points])
        _legend(axes, len(drawn[:MOST_LINES]))

    extra = f" Only the first {MOST_LINES} of {len(drawn)} lines are drawn." if len(drawn) > MOST_LINES else ""
    return Drawing(title, figure(draw, y, title, _size(len(drawn))), described + extra)


def bars(title: str, drawn: Sequence[tuple[str, float, float | None]], y: str, described: str = "") -> Drawing:
    """One dot with its spread per name, top to bottom: differences are read off a common axis."""
    height = 0.9 + 0.3 * len(drawn)

    def draw(axes: Any) -> None:
        for index, (_, mean, spread) in enumerate(drawn):
            axes.errorbar([mean], [index], xerr=spread, fmt=MARKERS[0], color=colour(index), ms=5, lw=1.2, capsize=2)
        axes.set_yticks(range(len(drawn)), [""] * len(drawn))
        for index, (name, _, _) in enumerate(drawn):
            place = {"xycoords": ("axes fraction", "data"), "ha": "right", "va": "center", "fontsize": 8}
            axes.annotate(name, (-0.02, index), parse_math=False, annotation_clip=False, **place)
        axes.invert_yaxis()
        axes.set_ylim(len(drawn) - 0.5, -0.5)
        axes.set_xlabel(y)

    return Drawing(title, figure(draw, "", title, (5.6, height)), described)


def points(
    title: str, drawn: Sequence[tuple[str, float, float, float | None]], front: set[str], x: str, y: str
) -> Drawing:
    """Score against cost (name, cost, score, spread); those in ``front`` are joined and in colour, the others small."""

    best = sorted((p for p in drawn if p[0] in front), key=lambda p: p[1])
    others = [p for p in drawn if p[0] not in front]

    def draw(axes: Any) -> None:
        axes.plot([p[1] for p in best], [p[2] for p in best], drawstyle="steps-post", color="#010203", lw=0.8)
        axes.plot([p[1] for p in others], [p[2] for p in others], "o", color="#010203", alpha=0.3, ms=3, label="others")
        for index, (name, cost, score, spread) in enumerate(best):
            look = {"color": colour(index), "ms": 6, "lw": 1, "capsize": 2}
            axes.errorbar([cost], [score], yerr=spread, fmt=MARKERS[index % len(MARKERS)], label=name, **look)
        if len(others) <= NAMED:
            for name, cost, score, _ in others:
                place = {"xytext": (3, 3), "textcoords": "offset points", "fontsize": 6, "alpha": 0.75}
                axes.annotate(name, (cost, score), parse_math=False, **place)
        costs = [p[1] for p in drawn]
        if max(costs) > NARROW * min(costs):
            _log(axes, costs)
        axes.set_xlabel(x)
        _legend(axes, len(best) + 1)

    named = ", ".join(p[0] for p in best)
    return Drawing(
        title, figure(draw, y, title, _size(len(best) + 1)), f"Not beaten in both: {named}." if named else ""
    )


def figure(draw: Callable[[Any], None], y: str, title: str, size: tuple[float, float]) -> str:
    """SVG with a name for screen readers, and ids that no other figure has."""
    svg = svg_of(draw, y, title, size)
    used = set(re.findall(r"#([\w.-]+)", svg))
    defined: set[str] = set()  # matplotlib defines equal markers again and again
    salt = hashlib.sha256(title.encode()).hexdigest()[:8]

    def renamed(match: re.Match[str]) -> str:
        if match[2] not in used or match[2] in defined:
            return ""
        defined.add(match[2])
        return f'{match[1]}f{salt}-{match[2]}"'

    svg = re.sub(r'(\sid=")([^"]*)"', renamed, svg)
    svg = re.sub(r'((?:url\(|href=")#)', rf"\1f{salt}-", svg)
    return svg.replace('role="img"', f'role="img" aria-label="{html.escape(title, quote=True)}"', 1)


def _size(count: int) -> tuple[float, float]:
    return (5.2, 3.1 + 0.11 * max(0, min(count, MOST_LINES) - 4))


def _legend(axes: Any, count: int) -> None:
    if not count:
        return
    place = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.2), "ncols": 3 if count > 4 else 2}
    legend = axes.legend(frameon=False, fontsize=7, **place)
    for entry in legend.get_texts():
        entry.set_parse_math(False)


def _log(axes: Any, values: Sequence[float]) -> None:
    positive = [value for value in values if value > 0]
    if not positive:
        return
    low, high = min(positive) / 1.6, max(positive) * 1.6
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    ticks = decades(low, high) or positive[:1]
    axes.set_xticks(ticks, [_tick(tick) for tick in ticks])
    axes.minorticks_off()


def _tick(value: float) -> str:
    for unit, size in (("B", 1e9), ("M", 1e6), ("K", 1e3)):
        if value >= size:
            return f"{value / size:g} {unit}"
    if value >= 0.01:
        return f"{value:g}"
    digit, _, power = f"{value:.0e}".partition("e")
    return f"{digit}e{int(power)}"
