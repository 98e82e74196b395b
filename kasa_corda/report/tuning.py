"""``--tuned KEY``: of settings that differ in KEY alone, keep the one that did best on the selection split."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from ..errors import ConfigError, DataError, unknown
from ..search.families import RATE, TEST, Family, selects_upwards
from .groups import Group, build_groups, short_names, shown
from .records import RunRecord


@dataclass(frozen=True)
class Choice:
    """Settings that are equal but for ``keys``, in the order of their values, and the one that was kept."""

    keys: tuple[str, ...]
    candidates: tuple[Group, ...]
    chosen: Group
    fresh: Group | None = None
    """after a search: the runs of the chosen setting with fresh seeds, which the tables show"""
    given: tuple[Group, ...] = ()
    """after a search: tested runs of other settings, which no search asked for, such as at the paper's learning rate"""
    searched: bool = False
    """whether the candidates are runs that left the evaluation set alone"""

    @property
    def metric(self) -> str:
        """What was compared, on the selection split."""
        return self.chosen.first.select_metric

    @property
    def at_edge(self) -> bool:
        """Whether the smallest or the largest value of a number won: a better one may lie outside."""
        values = [group.settings.get(key) for group in self.candidates for key in self.keys]
        ordered = len(self.keys) == 1 and all(isinstance(value, int | float) for value in values)
        return ordered and self.chosen in (self.candidates[0], self.candidates[-1])

    @property
    def rivals(self) -> list[Group]:
        """Candidates with fewer seeds than the chosen one that did better over the seeds both have."""
        ours, sign = self.chosen.selected_scores(), 1 if selects_upwards(self.chosen.first) else -1
        found = []
        for group in self.candidates:
            theirs = group.selected_scores()
            common = ours.keys() & theirs.keys()
            if group.n < self.chosen.n and sum(sign * (theirs[seed] - ours[seed]) for seed in common) > 0:
                found.append(group)
        return found

    def covers(self, group: Group) -> bool:
        """Whether these are runs of the chosen setting, by whatever metric."""
        shown = self.fresh if self.searched else self.chosen
        return shown is not None and _among(group, shown)

    @cached_property
    def family(self) -> Family:
        """The runs of a search as ``search.families`` has them."""
        tested = [*([self.fresh] if self.fresh else []), *self.given]
        return Family(
            {key: value for key, value in self.chosen.settings.items() if key not in (*self.keys, TEST)},
            [run for group in self.candidates for run in group.finished + group.unfinished],
            [run for group in tested for run in group.finished],
        )

    def values(self, group: Group) -> dict[str, str]:
        """Short name of each key -> its value in one candidate, as shown."""
        return {name: shown(group.settings.get(key)) for key, name in short_names(self.keys).items()}


def tune(records: Iterable[RunRecord], keys: Sequence[str]) -> tuple[list[RunRecord], list[Choice]]:
    """(records without the settings that were not chosen, one choice per method and task).

    The mean over seeds decides; settings that finished fewer seeds than another can't be chosen. Keys may be given by
    their last part. ConfigError for a key that no run has, or in which no two settings differ alone.
    """
    records = list(records)
    names = tuple(_full_name(key, records) for key in dict.fromkeys(keys))
    families = [members for members in _families(build_groups(records), names) if len(members) > 1]
    if not families:
        raise ConfigError(f"--tuned {' '.join(keys)}: no two settings differ in that alone, so nothing can be chosen")
    made = [_choose(members, names) for members in families if any(group.finished for group in members)]
    choices = [choice for choice in made if choice is not None]
    dropped = {
        run.path
        for choice in choices
        for group in choice.candidates
        if group is not choice.chosen and not choice.searched
        for run in group.finished + group.unfinished
    }
    return [record for record in records if record.path not in dropped], choices


def origin(group: Group, key: str, choices: Sequence[Choice]) -> str:
    """'tuned lr' or 'paper lr' where a search chose ``key``: a row goes over tasks with different rates. Else ''.

    Runs at a rate that no search chose are there because the paper has it (docs/protocol.md); several such rates of one
    setting are told apart by their values.
    """
    name = {RATE: "lr"}.get(key, key.rsplit(".", 1)[-1])
    for choice in choices:
        if choice.searched and key in choice.keys:
            if choice.covers(group):
                return f"tuned {name}"
            if len(choice.given) == 1 and _among(group, choice.given[0]):
                return f"paper {name}"
    return ""


def _among(group: Group, others: Group) -> bool:
    known = {run.path for run in others.finished + others.unfinished}
    return all(run.path in known for run in group.finished + group.unfinished)


def _choose(members: list[Group], keys: tuple[str, ...]) -> Choice | None:
    """Among the trials of a search where there was one, else among all; None of a search without a finished trial."""
    trials = [group for group in members if not group.first.tested]
    if not trials:
        return _best_of(members, keys)
    if not any(group.finished for group in trials):
        return None
    tested = [group for group in members if group.first.tested]
    best = _best_of(trials, keys)
    fresh = [group for group in tested if _order(group, keys) == _order(best.chosen, keys)]
    given = tuple(group for group in tested if group not in fresh)
    return replace(best, fresh=fresh[0] if fresh else None, given=given, searched=True)


def _best_of(members: list[Group], keys: tuple[str, ...]) -> Choice:
    for run in (run for group in members for run in group.finished):
        if run.select_score is None:
            raise DataError(f"--tuned: {run.path} has no {run.select_metric} on the selection split to choose by")
    candidates = tuple(sorted(members, key=lambda group: _order(group, keys)))
    most = max(group.n for group in candidates)
    sign = 1 if selects_upwards(candidates[0].first) else -1

    def merit(group: Group) -> float:
        return -math.inf if group.selected is None or math.isnan(group.selected.mean) else sign * group.selected.mean

    return Choice(keys, candidates, max((group for group in candidates if group.n == most), key=merit))


def _families(groups: Sequence[Group], keys: tuple[str, ...]) -> Iterator[list[Group]]:
    """Groups that are equal but for ``keys``; finished ones also in weights and data."""
    asked_for: dict[tuple[Any, ...], list[Group]] = defaultdict(list)
    for group in groups:
        asked_for[_identity(group.first, keys)].append(group)
    for members in asked_for.values():
        contents = list(dict.fromkeys(_content(group) for group in members if group.finished))
        for index, content in enumerate(contents or [()]):
            yield [g for g in members if (_content(g) == content if g.finished else index == 0)]


def _identity(record: RunRecord, keys: tuple[str, ...]) -> tuple[Any, ...]:
    others = {key: value for key, value in record.settings.items() if key not in (*keys, TEST)}
    return (*record.identity[:-1], json.dumps(others, sort_keys=True, default=str))


def _content(group: Group) -> tuple[Any, ...]:
    return (group.first.metric, *sorted(group.first.fingerprints.items()))


def _order(group: Group, keys: tuple[str, ...]) -> list[tuple[bool, float, str]]:
    """Numbers by size, before everything else by name."""
    values = [group.settings.get(key) for key in keys]
    return [(False, float(v), "") if isinstance(v, int | float) else (True, 0.0, repr(v)) for v in values]


def _full_name(key: str, records: Sequence[RunRecord]) -> str:
    known = {name for record in records for name in record.settings}
    matching = [key] if key in known else [name for name in known if name.rsplit(".", 1)[-1] == key]
    if len(matching) != 1:
        raise ConfigError(unknown("--tuned", key, matching or known))
    return matching[0]
