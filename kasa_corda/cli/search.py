"""``trainer.learning_rate=search``: the stages of ``search.stages``, as cells of a sweep.

Trials look at the selection split alone (evaluator.test=false) with the seeds of the line; the chosen rate is run again
with ``tuned_seeds``, fresh ones, and tested. Every family (cells equal but for seed and rate) goes on by itself.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from .. import errors
from ..search.rates import WIDTH, window
from ..search.stages import FAILED, MOST_EXTENSIONS, REFINEMENTS, TRIALS, Decision, decide, merit
from .cells import Cell
from .outcomes import OVER, CellOutcome, outcome
from .tuned import second_stage

DIVERGED = (errors.DIVERGED, "the loss became")
"""one of them is in the error of a run that diverged; the second was written by earlier versions"""


def next_cells(cells: Sequence[Cell]) -> tuple[list[Cell], list[str]]:
    """(checked cells of the next stages that are not among ``cells``, a sentence for each choice that is still open).

    To be called after every finished cell, with all cells so far. It reads each finished run once.
    """
    again, waiting = second_stage([cell for cell in cells if not cell.search])
    known = {cell.directory.path for cell in [*cells, *again] if cell.directory}
    impossible = {id(cell) for cell in cells if not cell.directory}
    for members in searched(cells):
        following, open_choice = _following(members)
        waiting += [f"no learning rate chosen for {members[0].name}: {open_choice}"] if open_choice else []
        for cell in following:
            if cell.directory and cell.directory.path not in known:
                known.add(cell.directory.path)
                again.append(cell)
            elif not cell.directory and id(cell) not in impossible:
                again.append(cell)
    return again, waiting


def searched(cells: Sequence[Cell]) -> list[list[Cell]]:
    """The trials of every search, family by family; impossible cells are none."""
    families: dict[str, list[Cell]] = defaultdict(list)
    for cell in cells:
        if cell.search and cell.directory:
            families[cell.family].append(cell)
    return list(families.values())


def _following(members: list[Cell]) -> tuple[list[Cell], str]:
    """The next cells of one family, and what its choice waits for."""
    found = {(cell.rate, int(cell.plain["seed"])): outcome(cell) for cell in members}
    decision = decision_of(members, found)
    tried = {rate for rate, _ in found}
    seeds = sorted({seed for _, seed in found})
    if new := [rate for rate in decision.rates if rate not in tried]:
        if _all_failed_otherwise(found):
            return [], f"all of its {len(found)} runs failed"
        return [_trial(members, rate, seed) for rate in new for seed in seeds], ""
    if decision.rates:
        unfinished = sum(now.state not in OVER for now in found.values())
        return [], f"{unfinished} of its {len(found)} runs are not finished"
    if decision.chosen is None:
        return [], f"all of its {len(found)} runs failed"
    chosen = next(cell for cell in members if cell.rate == decision.chosen)
    return [chosen.variation(seed=seed, evaluator__test=True) for seed in _tuned_seeds(members)], ""


def decision_of(members: Sequence[Cell], found: dict[tuple[float, int], CellOutcome]) -> Decision:
    """What the rule of ``search.stages`` says to the outcomes, by (rate, seed), of one family."""
    by_rate: dict[float, list[CellOutcome]] = defaultdict(list)
    for (rate, _), now in found.items():
        by_rate[rate].append(now)
    merits = {
        rate: FAILED
        if any(now.state == "failed" for now in outcomes)
        else merit([now.score for now in outcomes], outcomes[0].higher_is_better)
        for rate, outcomes in by_rate.items()
        if all(now.state in OVER for now in outcomes)
    }
    return decide(window(str(members[0].plain["method"]["name"])), merits)


def _all_failed_otherwise(found: dict[tuple[float, int], CellOutcome]) -> bool:
    """Whether no run worked and none of them diverged, so that a smaller learning rate would not help."""
    failed = all(now.state == "failed" for now in found.values())
    return failed and not any(words in (now.error or "") for now in found.values() for words in DIVERGED)


def _trial(members: list[Cell], rate: float, seed: int) -> Cell:
    cell = members[0].variation(trainer__learning_rate=rate, seed=seed)
    cell.search, cell.tuned_seeds = True, _tuned_seeds(members)
    return cell


def _tuned_seeds(members: list[Cell]) -> tuple[int, ...]:
    return tuple(dict.fromkeys(seed for cell in members for seed in cell.tuned_seeds))


@dataclass(frozen=True)
class SearchSize:
    """Runs of all searches of a sweep, by stage. Those of the window are its cells from the beginning."""

    families: int
    window: int
    refinements: int
    extensions: int
    """at most"""
    fresh: int

    @property
    def most(self) -> int:
        return self.window + self.refinements + self.extensions + self.fresh


def search_size(cells: Sequence[Cell]) -> SearchSize:
    """How many runs the searches among the first cells of a sweep come to."""
    families = searched(cells)
    seeds = [len({cell.plain["seed"] for cell in members}) for members in families]
    fresh = sum(len(_tuned_seeds(members)) for members in families)
    total = sum(seeds)
    return SearchSize(len(families), WIDTH * total, REFINEMENTS * total, MOST_EXTENSIONS * total, fresh)


def announced(cells: Sequence[Cell]) -> list[str]:
    """What the searches of a sweep will do, in sentences; none without a search."""
    size = search_size(cells)
    if not size.families:
        return []
    return [
        f"  searches: {size.families}, each of {TRIALS} learning rates on held-out data: {WIDTH} half decades"
        f" ({size.window:,} runs), then 2 quarter decades round the best ({size.refinements:,} runs)",
        f"  where the best is at the edge, up to {MOST_EXTENSIONS} half decades more (at most {size.extensions:,}"
        f" runs); then the chosen rate with fresh seeds, tested ({size.fresh:,} runs): at most {size.most:,} runs",
    ]


def choices(cells: Sequence[Cell]) -> list[str]:
    """A sentence for every search that is over."""
    sentences = []
    for members in searched(cells):
        found = {(cell.rate, int(cell.plain["seed"])): outcome(cell) for cell in members}
        decision = decision_of(members, found)
        if decision.chosen is None:
            continue
        scores = [now.score for (rate, _), now in found.items() if rate == decision.chosen and now.score is not None]
        notes = [f"{len({rate for rate, _ in found})} rates"]
        notes += [f"window extended by {decision.extended} half decades"] if decision.extended else []
        notes += ["at the edge: a better one may lie outside"] if decision.at_edge else []
        mean = math.fsum(scores) / len(scores)
        sentences.append(f"{members[0].name}: learning rate {decision.chosen:g} ({mean:.4f}; {', '.join(notes)})")
    return sentences
