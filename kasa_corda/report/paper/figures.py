"""Chapter: the papers' figures from our runs: rank sweep, component ablation, discarded components, spectra, budget."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from ...evaluation.units import factor
from ...store import RunDirectory
from ..groups import Group
from ..statistics import Summary
from .drawing import Line, bars, lines
from .layout import Chapter, Drawing, Heading
from .material import Material
from .settings import Setting

if TYPE_CHECKING:
    from ...paper.published import Cell

MOST = 12
"""figures of one kind"""
RANKED = ("method.rank", "method.alpha", "method.budget", "method.truncation_rank")
"""settings that go with the rank"""
PARTS = ("method.control", "method.beta", "method.gamma")
"""KaSA's components"""
RANK = re.compile(r"\b(?:rank|r)\s*=?\s*(\d+)\b")
DISCARDED = re.compile(r"\b(\d+) discarded\b")
DISCARD_AXIS = "components discarded from every layer"
WAYS = {"plain": "plain SVD", "asvd": "ASVD", "corda": "CO-SVD"}


def chapter(material: Material) -> Chapter:
    found = Chapter("figures", "The papers' figures")
    found.say("Ours at the tuned learning rate where there is one, with the sample standard deviation over seeds.")
    kinds = {
        "Rank sweep": rank_sweeps(material),
        "KaSA's components": ablations(material),
        "Discarding components without training": discards(material),
        "Spectra": spectra(material),
        "Parameter budget": budgets(material),
    }
    for title, figures in kinds.items():
        found.blocks.append(Heading(f"figures-{title.split()[0].lower().strip(chr(39))}", title))
        found.blocks += figures[:MOST]
        if not figures:
            found.say("These runs have nothing for this figure.", soft=True)
        elif len(figures) > MOST:
            found.say(f"{len(figures) - MOST} more are left out.", soft=True)
    return found


def rank_sweeps(material: Material) -> list[Drawing]:
    """Score by rank of every label that ran at several ranks and in nothing else differs; and as published."""
    found = []
    for place in material.places:
        for task in place.tasks:
            drawn = []
            for name, several in _by_all_but(place.on(task), RANKED):
                by_rank = {
                    int(s.first.settings["method.rank"]): row[2]
                    for s in several
                    if s.first.settings.get("method.rank") and (row := s.row())
                }
                if len(by_rank) > 1:
                    drawn.append(Line(name, tuple((r, *_shown(by_rank[r])) for r in sorted(by_rank))))
            if drawn:
                unit = _unit(place.on(task)[0])
                found.append(lines(f"Ours: {task}, {place.model}, {unit} by rank", drawn, "rank", unit, log=True))
    return found + _published(material.cells, RANK, "rank")


def ablations(material: Material) -> list[Drawing]:
    """KaSA with components taken out, on each task where some were; all else as in its most common setting."""
    found = []
    for place in material.places:
        for task in place.tasks:
            kasa = [s for s in place.on(task) if s.first.method == "kasa" and s.rows]
            families = sorted(_by_all_but(kasa, PARTS), key=lambda pair: -len(pair[1]))
            if not families or len(families[0][1]) < 2:
                continue
            lora = next((s for s in place.on(task) if s.name == "lora"), None)
            settings = sorted(families[0][1], key=lambda s: (len(removed(s.first.settings)), removed(s.first.settings)))
            drawn = []
            for setting in [*settings, *([lora] if lora else [])]:
                if row := setting.row():
                    mean, low, _ = _shown(row[2])
                    name = "LoRA" if setting is lora else ", ".join(removed(setting.first.settings)) or "KaSA"
                    drawn.append((name, mean, None if low is None else mean - low))
            title = f"{task}, {place.model}: KaSA without its components"
            found.append(bars(title, drawn, _unit(kasa[0]), "Mean over seeds with the sample standard deviation."))
    return found


def removed(settings: dict[str, Any]) -> list[str]:
    """Which of KaSA's components a setting leaves out, in words."""
    control = settings.get("method.control")
    parts = [] if control in (None, "none") else [str(control).replace("_", " ")]
    if settings.get("method.beta") == 0:
        parts.append("no L2")
    if settings.get("method.gamma") == 0:
        parts.append("no orthogonality")
    return parts


def discards(material: Material) -> list[Drawing]:
    """Scores after discarding the smallest components, by way of decomposing; ours and as published."""
    found = []
    for place in material.places:
        for task in place.tasks:
            settings = [s for s in place.on(task) if s.first.method == "discarded" and s.rows]
            by_way: dict[str, dict[float, Group]] = defaultdict(dict)
            for setting in settings:
                amount = setting.first.settings.get("method.discard")
                if isinstance(amount, int | float):
                    by_way[way_of(setting)][amount] = setting.rows[0][2]
            if not by_way:
                continue
            drawn = [
                Line(way, tuple((max(amount, 1), *_shown(groups[amount])) for amount in sorted(groups)))
                for way, groups in sorted(by_way.items())
            ]
            unit = _unit(settings[0])
            title = f"Ours: {task}, {place.model}, {unit} by components discarded"
            found.append(lines(title, drawn, DISCARD_AXIS, unit, log=True, described="None discarded is drawn at 1."))
    return found + _published(material.cells, DISCARDED, DISCARD_AXIS)


def way_of(setting: Setting) -> str:
    """How components were told apart: 'CO-SVD, 256 samples of nq_open'."""
    settings = setting.first.settings
    way = str(settings.get("method.decomposition", setting.first.label))
    samples, source = settings.get("calibration.samples"), settings.get("calibration.source")
    calibrated = way != "plain" and samples is not None
    return WAYS.get(way, way) + (f", {samples} samples of {source}" if calibrated else "")


def spectra(material: Material) -> list[Drawing]:
    """How much of each layer's weight KaSA cuts, or CorDA's adapter holds: layers.jsonl of one run per setting."""
    found = []
    for place in material.places:
        for label, key, y in (
            ("kasa", "relative_cut", "share of the weight's norm cut (log10)"),
            ("corda", "share", "share of the weight's energy in the adapter"),
        ):
            drawn: list[Line] = []
            seen: set[str] = set()
            for setting in place.settings:
                row = setting.row() if setting.first.method.startswith(label) else None
                if row is None or setting.name in seen:
                    continue
                seen.add(setting.name)
                points = layer_points(RunDirectory(row[2].finished[0].path), key)
                if points:
                    drawn.append(Line(setting.name, points))
            if drawn:
                found.append(lines(f"{place.model}: {y} by layer", drawn, "adapted layer, in the model's order", y))
    return found


def layer_points(directory: RunDirectory, key: str) -> tuple[tuple[float, float, float | None, float | None], ...]:
    try:
        values = [row.get(key) for row in directory.layers() if isinstance(row, dict)]
    except OSError:
        return ()
    numbers = [float(v) for v in values if isinstance(v, int | float) and math.isfinite(v) and v > 0]
    if key == "relative_cut":
        numbers = [math.log10(v) for v in numbers]
    return tuple((index, value, None, None) for index, value in enumerate(numbers))


def budgets(material: Material) -> list[Drawing]:
    """Score by trained parameters, one line per method that ran with several numbers of them."""
    found = []
    for place in material.places:
        for task in place.tasks:
            drawn = []
            for name, several in _by_all_but(place.on(task), RANKED):
                groups = [row[2] for s in several if (row := s.row())]
                points = sorted((size, *_shown(g)) for g in groups if (size := g.mean("parameters", "trainable")))
                if points:
                    drawn.append(Line(name, tuple(points)))
            if any(len(line.points) > 1 for line in drawn):
                unit = _unit(place.on(task)[0])
                title = f"{task}, {place.model}: {unit} by parameter budget"
                found.append(lines(title, drawn, "trained parameters", unit, log=True))
    return found


def _by_all_but(settings: Iterable[Setting], keys: Sequence[str]) -> list[tuple[str, list[Setting]]]:
    """Settings that are equal but for ``keys``, with the shortest of their names."""
    found: dict[str, list[Setting]] = defaultdict(list)
    for setting in settings:
        if setting.rows:
            others = {k: v for k, v in setting.family.settings.items() if k not in keys}
            found[f"{setting.first.label} {sorted(others.items(), key=str)}"].append(setting)
    counts: dict[str, int] = defaultdict(int)
    named = []
    for _, several in sorted(found.items(), key=lambda pair: (-len(pair[1]), pair[0])):
        label = several[0].first.label
        counts[label] += 1
        named.append((label if counts[label] == 1 else min((s.name for s in several), key=len), several))
    return sorted(named, key=lambda pair: pair[0])


def _shown(group: Group) -> tuple[float, float | None, float | None]:
    """Mean and mean -/+ standard deviation, as shown."""
    summary: Summary | None = group.best
    assert summary is not None
    times = factor(group.first.metric)
    if summary.std is None:
        return times * summary.mean, None, None
    return times * summary.mean, times * (summary.mean - summary.std), times * (summary.mean + summary.std)


def _unit(setting: Setting) -> str:
    metric = setting.first.metric
    return metric if factor(metric) == 1 else f"{metric} x 100"


def _published(cells: Iterable[Cell], pattern: re.Pattern[str], x: str) -> list[Drawing]:
    """Printed numbers that differ in an amount named in their setting, one figure per table, model and task."""
    found: dict[tuple[str, ...], dict[str, dict[float, float]]] = defaultdict(lambda: defaultdict(dict))
    for cell in cells:
        match = pattern.search(cell.setting)
        if match and cell.number is not None:
            rest = pattern.sub("", cell.setting).strip(" ,;")
            name = rest if cell.method == "discarded" else f"{cell.method} ({rest})" if rest else cell.method
            found[cell.paper, cell.table, cell.model, cell.task, cell.metric][name][float(match[1])] = cell.number
    drawings = []
    for (paper, table, model, task, metric), by_name in sorted(found.items()):
        drawn = [
            Line(name, tuple((max(at, 1.0), v, None, None) for at, v in sorted(points.items())))
            for name, points in sorted(by_name.items())
            if len(points) > 1
        ]
        if drawn:
            title = f"As published by {paper}, {table}: {model}, {task}, {metric}"
            drawings.append(lines(title, drawn, x, metric, log=True))
    return drawings
