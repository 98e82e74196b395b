"""``beside``: every printed number beside ours."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError, unknown
from ..paper.hyperparameters import deviations, hyperparameters_of, published_learning_rate
from .inference import Estimate, estimate, quantile
from .runs import Index, Setting, value
from .sides import most_seeds, several
from .verdict import RATES, CellResult

if TYPE_CHECKING:
    from ..paper.published import Cell
    from ..report.records import RunRecord

ORDER = ("paper", "authors", "third_party")
"""whose number a verdict uses, where several print one: the paper's own, else its authors', else others'"""

LAST = "last epoch"
"""settings of cells that begin so are of the end of training, all others of the selected epoch"""


def beside(cells: Iterable[Cell], records: Iterable[RunRecord], lr: str = "paper") -> list[CellResult]:
    """One result per cell, in order, also where nothing was run. lr: 'paper' or 'tuned', as in ``judge``."""
    if lr not in RATES:
        raise ConfigError(unknown("lr", lr, RATES))
    cells, index = list(cells), Index(records, lr)
    used = {id(cell) for cell in preferred(cells)}
    rows: dict[tuple[str, ...], list[Cell]] = {}
    for cell in cells:
        if not cell.is_mean:
            rows.setdefault(cell.row, []).append(cell)
    return [_result(cell, rows.get(cell.row, []), index, id(cell) in used) for cell in cells]


def preferred(cells: Iterable[Cell]) -> list[Cell]:
    """Of all cells that print the same number of ours, the one that verdicts use (``ORDER``, then the first)."""
    chosen: dict[tuple[Any, ...], Cell] = {}
    for cell in cells:
        if not cell.value:
            continue
        settings = tuple(sorted((k, v) for k, v in cell.conditions.items() if k != "method.variant"))
        place = ("mean", cell.trained_on) if cell.is_mean else (cell.task, cell.run_task)
        moment = "last" if cell.setting.startswith(LAST) else "best"
        key = (cell.paper, cell.model, *place, moment, cell.metric, cell.method, settings)
        before = chosen.get(key)
        if before is None or ORDER.index(cell.kind) < ORDER.index(before.kind):
            chosen[key] = cell
    return list(chosen.values())


def _result(cell: Cell, row: Sequence[Cell], index: Index, used: bool) -> CellResult:
    members = row if cell.is_mean else [cell]
    found = [_setting(one, index) for one in members]
    present = [(one, setting) for one, setting in zip(members, found, strict=True) if setting is not None]
    if not members or len(present) < len(members):
        lacking = ", ".join(one.task for one, setting in zip(members, found, strict=True) if setting is None)
        partly = (f"not run on {lacking}",) if cell.is_mean and present else ()
        return CellResult(cell, index.lr, used_for_verdict=used, notes=partly)
    notes = [note for one, setting in present for note in _notes(one, setting, index)]
    scores = [_scores(one, setting) for one, setting in present]
    seeds = sorted(set.intersection(*(set(one) for one in scores)))
    if not seeds:
        return CellResult(cell, index.lr, used_for_verdict=used, notes=(*notes, "no seed was run on all tasks"))
    runs = tuple(dict.fromkeys(setting.runs[seed].run_id for _, setting in present for seed in seeds))
    ours = estimate([[one[seed] for seed in seeds] for one in scores])
    low, high = ours.interval() or (None, None)
    run_low, run_high = further_run(ours)
    rates = {setting.rate for _, setting in present}
    return CellResult(
        cell,
        index.lr,
        mean=ours.mean,
        std=ours.std if ours.std is not None else (0.0 if len(seeds) > 1 else None),
        low=low,
        high=high,
        n=len(seeds),
        difference=None if cell.number is None else ours.mean - cell.number,
        inside=_inside(cell, run_low, run_high),
        run_ids=runs,
        deviations=_deviations(present),
        run_low=run_low,
        run_high=run_high,
        used_for_verdict=used,
        notes=tuple(dict.fromkeys(notes)),
        learning_rate=rates.pop() if len(rates) == 1 else None,
        metric=cell.run_metric,
    )


def further_run(ours: Estimate) -> tuple[float | None, float | None]:
    """Where 95 % of further runs (of means over tasks, one run each) would fall."""
    if ours.seed_variance is None:
        return None, None
    half = quantile(ours.degrees, 0.95) * math.sqrt(ours.seed_variance * (ours.seeds + 1))
    return ours.mean - half, ours.mean + half


def _setting(cell: Cell, index: Index) -> Setting | None:
    """The runs that this number is of; of several settings those with most seeds."""
    usable = _usable(cell, index)
    return most_seeds(usable) if usable else None


def _usable(cell: Cell, index: Index) -> list[Setting]:
    where = {"method": cell.method, **cell.conditions}
    found = index.find(cell.model, cell.run_task, where, published_learning_rate(cell))
    return [s for s in found if any(_score(cell, run) is not None for run in s.runs.values())]


def _notes(cell: Cell, setting: Setting, index: Index) -> list[str]:
    return [*setting.notes, *several(cell.method, cell.run_task, _usable(cell, index), setting)]


def _score(cell: Cell, run: RunRecord) -> float | None:
    if cell.setting.startswith(LAST):
        return run.last.test.get(cell.run_metric) if run.last else None
    return value(run, cell.run_metric)


def _scores(cell: Cell, setting: Setting) -> dict[int, float]:
    """seed -> score in printed units"""
    found = {seed: _score(cell, run) for seed, run in setting.runs.items()}
    return {seed: cell.factor * score for seed, score in found.items() if score is not None}


def _inside(cell: Cell, low: float | None, high: float | None) -> bool | None:
    if cell.number is None or low is None or high is None:
        return None
    rounding = 0.5 * 10.0**-cell.decimals
    return low - rounding <= cell.number <= high + rounding


def _deviations(present: Sequence[tuple[Cell, Setting]]) -> tuple[str, ...]:
    """In plain words; what is not so on all tasks of a mean names its task."""
    by_task = {}
    for cell, setting in present:
        run = setting.first
        settings = {**run.settings, "selection": run.selection}
        by_task[cell.task] = deviations(settings, hyperparameters_of(cell))
    common = [words for words in next(iter(by_task.values())) if all(words in found for found in by_task.values())]
    own = [f"{task}: {words}" for task, found in by_task.items() for words in found if words not in common]
    return (*common, *own)
