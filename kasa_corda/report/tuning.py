"""``--tuned KEY``: of settings that differ in KEY alone, keep the one that did best on the selection split."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import ConfigError, DataError, unknown
from .groups import Group, build_groups, short_names, shown
from .records import RunRecord


@dataclass(frozen=True)
class Choice:
    """Settings that are equal but for ``keys``, in the order of their values, and the one that was kept."""

    keys: tuple[str, ...]
    candidates: tuple[Group, ...]
    chosen: Group

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
        ours, sign = self.chosen.selected_scores(), 1 if self.chosen.first.higher_is_better else -1
        found = []
        for group in self.candidates:
            theirs = group.selected_scores()
            common = ours.keys() & theirs.keys()
            if group.n < self.chosen.n and sum(sign * (theirs[seed] - ours[seed]) for seed in common) > 0:
                found.append(group)
        return found

    def covers(self, group: Group) -> bool:
        """Whether these are runs of the chosen setting, by whatever metric."""
        return {run.path for run in group.finished} <= {run.path for run in self.chosen.finished}

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
    choices = [_choose(members, names) for members in families if any(group.finished for group in members)]
    dropped = {
        run.path
        for choice in choices
        for group in choice.candidates
        if group is not choice.chosen
        for run in group.finished + group.unfinished
    }
    return [record for record in records if record.path not in dropped], choices


def _choose(members: list[Group], keys: tuple[str, ...]) -> Choice:
    for run in (run for group in members for run in group.finished):
        if run.select_score is None:
            raise DataError(f"--tuned: {run.path} has no {run.select_metric} on the selection split to choose by")
    candidates = tuple(sorted(members, key=lambda group: _order(group, keys)))
    most = max(group.n for group in candidates)
    sign = 1 if candidates[0].first.higher_is_better else -1

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
    others = {key: value for key, value in record.settings.items() if key not in keys}
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
