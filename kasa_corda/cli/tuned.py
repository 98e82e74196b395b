"""The second stage of a sweep: of cells that differ in the learning rate alone, the best one again with more seeds.

``tuned_seeds=0,1,2`` asks for it. The selection split decides, never the evaluation set, as in the report's
``--tuned learning_rate``.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from .cells import Cell


def second_stage(cells: Sequence[Cell]) -> tuple[list[Cell], list[str]]:
    """(checked cells of the chosen learning rates that are not among ``cells``, a sentence for each open choice)."""
    known = {cell.directory.path for cell in cells if cell.directory}
    families: dict[str, list[Cell]] = defaultdict(list)
    for cell in cells:
        if cell.tuned_seeds and cell.directory:
            families[_family(cell)].append(cell)
    found: dict[Any, Cell] = {}
    waiting = []
    for members in families.values():
        best = _best(members)
        if isinstance(best, str):
            waiting.append(f"no learning rate chosen for {_name(members[0])}: {best}")
            continue
        for seed in best.tuned_seeds:
            cell = Cell([*best.overrides, f"seed={seed}"], {**best.plain, "seed": seed})
            cell.check()
            if cell.directory and cell.directory.path not in known:
                found[cell.directory.path] = cell
    return list(found.values()), waiting


def _best(members: list[Cell]) -> Cell | str:
    """A cell of the learning rate with the best mean over the seeds of the first stage, or why there is none yet.

    Runs that failed (a loss that is no longer finite) can't be chosen; nor can a rate with fewer seeds than another.
    """
    states = [cell.directory.state() for cell in members if cell.directory]
    if unfinished := [state for state in states if state not in ("finished", "failed")]:
        return f"{len(unfinished)} of its {len(members)} runs are not finished"
    by_rate: dict[float, list[tuple[Cell, float]]] = defaultdict(list)
    for cell in members:
        if (score := _selected(cell)) is not None:
            by_rate[cell.plain["trainer"]["learning_rate"]].append((cell, score))
    if not by_rate:
        return f"all of its {len(members)} runs failed"
    most = max(map(len, by_rate.values()))
    chosen = max((tried for tried in by_rate.values() if len(tried) == most), key=_mean)
    return chosen[0][0]


def _mean(tried: list[tuple[Cell, float]]) -> float:
    mean = sum(score for _, score in tried) / len(tried)
    return -math.inf if math.isnan(mean) else mean


def _selected(cell: Cell) -> float | None:
    """The score that chose the epoch, on the selection split; higher is better. None unless finished."""
    assert cell.directory is not None
    if cell.directory.state() != "finished" or not (result := cell.directory.result()):
        return None
    value = result["best"]["select"].get(cell.plain["task"].get("select_by") or result["metric"])
    return math.nan if value is None else float(value)


def _family(cell: Cell) -> str:
    """Everything of a cell but its seed and its learning rate."""
    trainer = {key: value for key, value in cell.plain["trainer"].items() if key != "learning_rate"}
    kept = {**cell.plain, "trainer": trainer, "seed": None}
    return json.dumps(kept, sort_keys=True, default=str)


def _name(cell: Cell) -> str:
    return " ".join(str(cell.plain[key]["name"]) for key in ("task", "model", "method"))
