"""Searches in the run store: of each setting the rates that were tried, the one that was chosen, and its fresh runs."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ..evaluation.units import higher_is_better
from .alpha import AlphaRule, alpha_rule
from .rates import window
from .stages import FAILED, Decision, decide, merit, winner

if TYPE_CHECKING:
    from ..report.records import RunRecord

RATE, TEST = "trainer.learning_rate", "evaluator.test"
OVER = ("finished", "failed")


@dataclass
class Family:
    """All runs of one setting, whatever their seed and learning rate."""

    settings: dict[str, Any]
    """the flattened config without seed, learning rate and evaluator.test"""
    search: list[RunRecord] = field(default_factory=list)
    """runs that looked at the selection split alone (evaluator.test=false), in whatever state"""
    tested: list[RunRecord] = field(default_factory=list)
    """finished runs with test scores"""

    @property
    def first(self) -> RunRecord:
        return (self.search or self.tested)[0]

    @property
    def method(self) -> str:
        return self.first.method

    @property
    def metric(self) -> str:
        """What was compared, on the selection split."""
        return next((run for run in self.search if run.state == "finished"), self.first).select_metric

    @property
    def higher_is_better(self) -> bool:
        return selects_upwards(self.first)

    @cached_property
    def outcomes(self) -> dict[float, dict[int, float | None]]:
        """Rate -> search seed -> score on the selection split; None of a run that failed or is not finished."""
        found: dict[float, dict[int, float | None]] = defaultdict(dict)
        for run in sorted(self.search, key=lambda run: (rate_of(run), run.seed or 0)):
            if run.seed is not None:
                found[rate_of(run)][run.seed] = run.select_score if run.state == "finished" else None
        return dict(found)

    @cached_property
    def trials(self) -> dict[float, list[float]]:
        """Rate -> scores on the selection split of the search runs that finished, by seed; fractions."""
        return {
            rate: [score for score in scores.values() if score is not None] for rate, scores in self.outcomes.items()
        }

    @cached_property
    def merits(self) -> dict[float, float]:
        """Rate that has run -> mean over the search seeds, higher is better; ``FAILED`` where a run failed."""
        seeds = {seed for scores in self.outcomes.values() for seed in scores}
        waiting = {rate_of(run) for run in self.search if run.state not in OVER}
        return {
            rate: merit(scores.values(), self.higher_is_better) if scores.keys() == seeds else FAILED
            for rate, scores in self.outcomes.items()
            if rate not in waiting
        }

    @property
    def open(self) -> int:
        """Search runs that are neither finished nor failed."""
        return sum(run.state not in OVER for run in self.search)

    @cached_property
    def decision(self) -> Decision:
        """What the search came to by its rule; other lists of rates than its window's have no next step."""
        from ..methods import METHODS

        start = window(self.method) if self.method in METHODS.names() else ()
        if self.outcomes.keys() & set(start):
            return decide(start, self.merits)
        return Decision(chosen=self.chosen, at_edge=self.at_edge)

    @property
    def complete(self) -> bool:
        """Whether nothing of the search is still to run."""
        return bool(self.search) and not self.open and not self.decision.rates

    @cached_property
    def chosen(self) -> float | None:
        """The best rate of all tried so far; None if none was tried or all failed. Final once ``complete``."""
        best = winner(self.merits, self.merits) if self.merits else None
        return None if best is None or self.merits[best] == FAILED else best

    @property
    def at_edge(self) -> bool:
        """Whether the chosen rate is the smallest or the largest one tried."""
        return self.chosen is not None and self.chosen in (min(self.trials), max(self.trials))

    @property
    def extensions(self) -> int:
        """Half decades that were added to the method's window because the best rate was its first or last."""
        return self.decision.extended

    @property
    def extended(self) -> bool:
        return self.extensions > 0

    @cached_property
    def alpha(self) -> AlphaRule:
        given = self.first.config.get("method")
        return alpha_rule(given if isinstance(given, dict) else {})

    @property
    def alpha_rule(self) -> str | None:
        """'fixed 16' or 'alpha = r'; None for methods without alpha."""
        return self.alpha.text

    @property
    def scale(self) -> float | None:
        """The factor before the update, such as alpha / r; None for methods without alpha."""
        return self.alpha.scale

    @property
    def fresh(self) -> list[RunRecord]:
        """Runs at the chosen rate with seeds that had no part in choosing it, test scores included; by seed."""
        used = {run.seed for run in self.search}
        return [] if self.chosen is None else [run for run in self.at(self.chosen) if run.seed not in used]

    def at(self, rate: float) -> list[RunRecord]:
        """Finished runs at this learning rate that have test scores, by seed."""
        found = [run for run in self.tested if math.isclose(rate_of(run), rate, rel_tol=1e-6)]
        return sorted(found, key=lambda run: run.seed or 0)

    @property
    def note(self) -> str:
        """What a reader should know of the choice, as words: '' or 'window extended, 2 trials; at the edge'."""
        notes = []
        if self.extensions:
            notes.append(f"window extended, {self.extensions} trial{'s' if self.extensions > 1 else ''}")
        if self.at_edge:
            notes.append("at the edge")
        if not self.complete:
            notes.append("search not finished")
        return "; ".join(notes)


def families(records: Iterable[RunRecord]) -> list[Family]:
    """One family per setting, searched or not, sorted by task, model and method."""
    found: dict[tuple[str, ...], Family] = {}
    for record in records:
        if record.seed is None or record.state in ("damaged", "duplicate") or record.split:
            continue
        key, settings = family_key(record)
        family = found.setdefault(key, Family(settings))
        if not record.tested:
            family.search.append(record)
        elif record.state == "finished":
            family.tested.append(record)
    return [family for _, family in sorted(found.items()) if family.search or family.tested]


def family_key(record: RunRecord) -> tuple[tuple[str, ...], dict[str, Any]]:
    """What the runs of one family share, as a key and as settings."""
    settings = {key: value for key, value in record.settings.items() if key not in (RATE, TEST)}
    names = (record.task, record.model, record.method, record.label, record.selection, record.scale)
    return (*names, json.dumps(settings, sort_keys=True, default=str)), settings


def rate_of(record: RunRecord) -> float:
    value = record.settings.get(RATE)
    return float(value) if isinstance(value, int | float) else math.nan


def selects_upwards(record: RunRecord) -> bool:
    """Whether a higher ``select_metric`` is better; it need not be the metric that the tables show."""
    if record.select_metric == record.own_metric:
        return record.higher_is_better
    return higher_is_better(record.select_metric)
