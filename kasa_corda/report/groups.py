"""Runs that differ in nothing but the seed, and the names that tell such groups apart."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from .records import DUPLICATE, RunRecord
from .statistics import Summary, summarise


@dataclass
class Group:
    """All runs of one setting: the finished ones (equal fingerprints) and those that never finished."""

    finished: list[RunRecord] = field(default_factory=list)
    unfinished: list[RunRecord] = field(default_factory=list)

    @property
    def first(self) -> RunRecord:
        return (self.finished or self.unfinished)[0]

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The flattened config, with the fingerprints of weights and data."""
        return {**self.first.settings, "task.metric": self.first.metric, **self.first.fingerprints}

    @cached_property
    def best(self) -> Summary | None:
        return _summary(run.score for run in self.finished)

    @cached_property
    def last(self) -> Summary | None:
        return _summary(run.last_score for run in self.finished)

    @cached_property
    def selected(self) -> Summary | None:
        """What chose the epoch, on the selection split."""
        return _summary(run.select_score for run in self.finished)

    @property
    def n(self) -> int:
        return len(self.finished)

    @property
    def seeds(self) -> list[int]:
        return sorted(run.seed for run in self.finished if run.seed is not None)

    def scores(self) -> dict[int, float]:
        """seed -> score at the selected epoch."""
        return {run.seed: run.score for run in self.finished if run.seed is not None and run.score is not None}

    def selected_scores(self) -> dict[int, float]:
        """seed -> score on the selection split."""
        found = {run.seed: run.select_score for run in self.finished}
        return {seed: score for seed, score in found.items() if seed is not None and score is not None}

    def states(self) -> dict[str, int]:
        """How many runs are in which unfinished state."""
        return dict(Counter(run.state for run in self.unfinished))

    def mean(self, *keys: str) -> float | None:
        """Mean of a number of result.json over the finished runs that have it."""
        values = [v for run in self.finished if (v := run.number(*keys)) is not None]
        return sum(values) / len(values) if values else None

    def peak(self, *keys: str) -> float | None:
        return max((v for run in self.finished if (v := run.number(*keys)) is not None), default=None)


def build_groups(records: Iterable[RunRecord]) -> list[Group]:
    """Group by everything but the seed; finished runs with other weights or data are groups of their own."""
    by_identity: dict[tuple[Any, ...], list[RunRecord]] = defaultdict(list)
    for record in records:
        if record.seed is not None and record.state != DUPLICATE:
            by_identity[record.identity].append(record)
    groups: list[Group] = []
    for runs in by_identity.values():
        by_content: dict[tuple[Any, ...], Group] = {}
        for run in sorted(runs, key=lambda r: r.seed or 0):
            if run.state == "finished":
                key = (run.metric, *sorted(run.fingerprints.items()))
                by_content.setdefault(key, Group()).finished.append(run)
        unfinished = [run for run in runs if run.state != "finished"]
        if unfinished and not by_content:
            by_content[()] = Group()
        for run in unfinished:
            next(iter(by_content.values())).unfinished.append(run)
        groups += by_content.values()
    return sorted(groups, key=lambda g: (*g.first.identity, *map(str, g.first.fingerprints.values())))


def differing_keys(groups: Iterable[Group]) -> list[str]:
    """Settings that are not the same in all of these groups."""
    settings = [group.settings for group in groups]
    keys = dict.fromkeys(key for one in settings for key in one)
    missing = object()
    return [key for key in keys if len({repr(one.get(key, missing)) for one in settings}) > 1]


def short_names(keys: Iterable[str]) -> dict[str, str]:
    """'trainer.learning_rate' -> 'learning_rate', wherever that stays unambiguous."""
    keys = list(keys)
    counts = Counter(key.split(".", 1)[-1] for key in keys)
    return {key: key if counts[short := key.split(".", 1)[-1]] > 1 or short == "fingerprint" else short for key in keys}


def shown(value: Any) -> str:
    """A setting as it appears in a label."""
    if value is None:
        return "none"
    if isinstance(value, list):
        return "+".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)


def _summary(values: Iterable[float | None]) -> Summary | None:
    present = [value for value in values if value is not None]
    return summarise(present) if present else None
