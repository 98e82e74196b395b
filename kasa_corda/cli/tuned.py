"""The second stage of a sweep: of cells that differ in the learning rate alone, the best one again with more seeds.

``tuned_seeds=0,1,2`` asks for it. The selection split decides, never the evaluation set, as in the report's
``--tuned learning_rate``. With ``trainer.learning_rate=search`` there are more stages: ``cli.search``.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from .cells import Cell
from .outcomes import OVER, outcome


def second_stage(cells: Sequence[Cell]) -> tuple[list[Cell], list[str]]:
    """(checked cells of the chosen learning rates that are not among ``cells``, a sentence for each open choice)."""
    known = {cell.directory.path for cell in cells if cell.directory}
    families: dict[str, list[Cell]] = defaultdict(list)
    for cell in cells:
        if cell.tuned_seeds and cell.directory and not cell.search:
            families[cell.family].append(cell)
    found: dict[Any, Cell] = {}
    waiting = []
    for members in families.values():
        best = _best(members)
        if isinstance(best, str):
            waiting.append(f"no learning rate chosen for {members[0].name}: {best}")
            continue
        for seed in best.tuned_seeds:
            cell = best.variation(seed=seed)
            if cell.directory and cell.directory.path not in known:
                found[cell.directory.path] = cell
    return list(found.values()), waiting


def _best(members: list[Cell]) -> Cell | str:
    """A cell of the learning rate with the best mean over the seeds of the first stage, or why there is none yet.

    Runs that failed (a loss that is no longer finite) can't be chosen; nor can a rate with fewer seeds than another.
    """
    found = [(cell, outcome(cell)) for cell in members]
    if unfinished := [cell for cell, now in found if now.state not in OVER]:
        return f"{len(unfinished)} of its {len(members)} runs are not finished"
    by_rate: dict[float, list[tuple[Cell, float]]] = defaultdict(list)
    for cell, now in found:
        if now.state == "finished":
            by_rate[cell.rate].append((cell, math.nan if now.score is None else now.score))
    if not by_rate:
        return f"all of its {len(members)} runs failed"
    most = max(map(len, by_rate.values()))
    chosen = max((tried for tried in by_rate.values() if len(tried) == most), key=_mean)
    return chosen[0][0]


def _mean(tried: list[tuple[Cell, float]]) -> float:
    mean = sum(score for _, score in tried) / len(tried)
    return -math.inf if math.isnan(mean) else mean
