"""Chapter: our own scores, two rows a method, and what each cost."""

from __future__ import annotations

from .. import format
from ..groups import Group
from . import words
from .layout import NOTHING, Cell, Chapter, Column, Grid, Heading, columns, number
from .material import Material
from .settings import Place, Setting

WIDTH = 6


def chapter(material: Material) -> Chapter:
    found = Chapter("scores", "Our scores")
    found.say(
        "Scores x 100 on the evaluation set (NIST, CIDEr, losses and perplexities as they are): mean ± sample standard"
        " deviation over fresh seeds that had no part in choosing the learning rate. 'paper lr' is the published rate,"
        " 'tuned lr' the one with the best mean on held-out data; where one rate was tested it stands in both rows."
    )
    for place in material.places:
        if any(setting.rows for setting in place.settings):
            found.blocks.append(Heading(words.slug("scores", place.key), place.title))
            found.blocks += grids(place)
    return found


def grids(place: Place) -> list[Grid]:
    """Methods x tasks, in blocks of a few tasks, and a table of costs."""
    tasks = [task for task in place.tasks if any(setting.rows for setting in place.on(task))]
    every = [
        (name, how, {task: row for task, setting in by_task.items() if (row := _row(setting, how))})
        for name, by_task in place.by_name().items()
        for how in ("paper lr", "tuned lr", "no lr")
    ]
    rows = [row for row in every if row[2]]
    found: list[Grid] = []
    blocks = [tasks[start : start + WIDTH] for start in range(0, len(tasks), WIDTH)]
    for index, block in enumerate(blocks, 1):
        part = f", part {index} of {len(blocks)}" if len(blocks) > 1 else ""
        heads = [Column(format.heading(task, place.on(task)[0].first.metric)) for task in block]
        mean = len(blocks) == 1 and len(block) > 1
        body = [_cells(name, how, groups, block, mean) for name, how, groups in rows if set(groups) & set(block)]
        names = [*columns("Method", "Learning rate"), *heads, *(columns("Mean") if mean else [])]
        found.append(Grid(words.slug("scores", place.key, index), f"Scores, {place.model}{part}", names, body))
    return [*found, costs(place)]


def _row(setting: Setting, how: str) -> tuple[float | None, Group] | None:
    return next(((rate, group) for name, rate, group in setting.rows if name == how), None)


def _cells(
    name: str, how: str, groups: dict[str, tuple[float | None, Group]], block: list[str], mean: bool
) -> list[Cell]:
    rates = list(dict.fromkeys(words.rate(rate) for task in block if task in groups for rate in (groups[task][0],)))
    cells = [Cell(name, heading=True), Cell(how if how == "no lr" else f"{how}: {', '.join(rates)}")]
    for task in block:
        if task not in groups:
            cells.append(Cell(NOTHING))
            continue
        rate, group = groups[task]
        cells.append(words.score_cell(group, f"{how} {words.rate(rate)}" if rate is not None else how))
    if mean:
        values = [cell.value for cell in cells[2:]]
        complete = [value for value in values if value is not None]
        total = sum(complete) / len(complete) if complete and len(complete) == len(values) else None
        cells.append(number(total, format.percent(total)))
    return cells


def costs(place: Place) -> Grid:
    """Trained parameters, time and memory of every setting, as means over the runs of its row."""
    rows = []
    for setting in sorted(place.settings, key=lambda s: (s.name, s.first.task)):
        found = setting.row()
        if found is None:
            continue
        _, _, group = found
        family = setting.family
        rows.append(
            [
                Cell(setting.name, heading=True),
                Cell(setting.first.task),
                _mean(group, ("parameters", "trainable"), format.count),
                _mean(group, ("seconds", "fit"), format.seconds),
                _mean(group, ("seconds", "total"), format.seconds),
                _mean(group, ("peak_memory_bytes", "device"), format.memory),
                _mean(group, ("peak_memory_bytes", "host"), format.memory),
                Cell(family.alpha_rule or NOTHING),
            ]
        )
    names = ("Method", "Task", "Trainable", "Training", "Whole run", "Device memory", "Host memory", "Rule of alpha")
    return Grid(words.slug("costs", place.key), f"What a run costs, {place.model}", columns(*names), rows)


def _mean(group: Group, keys: tuple[str, ...], shown: object) -> Cell:
    value = group.mean(*keys)
    if value is None:
        return Cell(NOTHING)
    runs = tuple(run.run_id for run in group.finished if run.number(*keys) is not None)
    return Cell(shown(value), value, runs=runs, path=".".join(keys))  # type: ignore[operator]
