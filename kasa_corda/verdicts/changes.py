"""Two run sets side by side (two machines, two versions): which settings changed beyond noise."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..errors import DataError
from ..report.groups import Group, build_groups
from ..report.records import RunRecord
from ..report.statistics import holm, paired_difference
from .inference import LEVEL

IDENTICAL, SAME, CHANGED, UNKNOWN = "identical", "no change", "changed", "can't tell"
COSTS = (("seconds", "fit"), ("peak_memory_bytes", "device"), ("peak_memory_bytes", "host"))


@dataclass(frozen=True)
class Change:
    """One setting in both sets; differences are B - A, as fractions."""

    task: str
    model: str
    method: str
    setting: str
    metric: str
    a: float
    b: float
    seeds: tuple[int, int]
    """finished runs in A and in B"""
    test: str
    """'paired' over common seeds, 'Welch', or why there is none"""
    difference: float
    low: float | None = None
    high: float | None = None
    p: float | None = None
    p_holm: float | None = None
    state: str = UNKNOWN
    seconds_ratio: float | None = None
    """B / A of the time spent fitting (geometric mean over seeds)"""
    memory_ratio: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def cell(self) -> str:
        return " ".join(part for part in (self.task, self.model, self.method, self.setting) if part)


@dataclass(frozen=True)
class Comparison:
    """``only_a``, ``only_b``: settings, in words, that have finished runs in one set alone."""

    changes: tuple[Change, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]

    @property
    def changed(self) -> bool:
        return any(change.state == CHANGED for change in self.changes)


def changes(a: Iterable[RunRecord], b: Iterable[RunRecord]) -> Comparison:
    """Same settings matched; p-values corrected over all of them. DataError if the sets share no finished setting."""
    sets = [_by_setting(records) for records in (a, b)]
    for name, found in zip("AB", sets, strict=True):
        if not found:
            raise DataError(f"run set {name} has no finished run")
    common = [key for key in sets[0] if key in sets[1]]
    if not common:
        raise DataError(
            f"no setting was run in both sets ({len(sets[0])} in A, {len(sets[1])} in B): they can't be compared"
        )
    every = [group for found in sets for group in found.values()]
    words = _words(every)
    rows = [_change(sets[0][key], sets[1][key], words) for key in common]
    corrected = holm([row.p for row in rows])
    rows = [_judged(replace(row, p_holm=p)) for row, p in zip(rows, corrected, strict=True)]
    alone = [tuple(_name(found[key], words) for key in found if key not in common) for found in sets]
    return Comparison(tuple(rows), alone[0], alone[1])


def _by_setting(records: Iterable[RunRecord]) -> dict[tuple[Any, ...], Group]:
    """What was asked for, whatever weights or data were found for it; of several such groups the largest."""
    found: dict[tuple[Any, ...], Group] = {}
    for group in build_groups(record for record in records if record.tested):
        first = group.first
        settings = json.dumps(first.settings, sort_keys=True, default=str)
        key = (first.task, first.model, first.method, first.selection, first.scale, settings)
        if group.finished and (key not in found or found[key].n < group.n):
            found[key] = group
    return found


def _change(a: Group, b: Group, words: dict[int, str]) -> Change:
    ours, theirs = a.scores(), b.scores()
    common = sorted(ours.keys() & theirs.keys())
    first = a.first
    notes = [
        f"other {name}"
        for name, key in (("weights", "model.fingerprint"), ("data", "data.fingerprint"))
        if first.fingerprints.get(key) != b.first.fingerprints.get(key)
    ]
    row = Change(
        first.task,
        first.model,
        first.label,
        words[id(a)],
        first.metric,
        sum(ours.values()) / len(ours),
        sum(theirs.values()) / len(theirs),
        (len(ours), len(theirs)),
        "",
        math.nan,
        seconds_ratio=_ratio(a, b, common, COSTS[:1]),
        memory_ratio=_ratio(a, b, common, COSTS[1:]),
    )
    if first.metric != b.first.metric:
        return replace(row, test=f"B has another metric, {b.first.metric}", notes=tuple(notes))
    row = replace(row, difference=row.b - row.a)
    if len(common) == len(ours) == len(theirs) and all(_scores(a, seed) == _scores(b, seed) for seed in common):
        return replace(row, test="paired", state=IDENTICAL, notes=tuple(notes))
    if len(common) >= 2:
        return replace(_paired(row, theirs, ours), notes=tuple(notes))
    return replace(_welch(row, list(ours.values()), list(theirs.values())), notes=tuple(notes))


def _paired(row: Change, theirs: dict[int, float], ours: dict[int, float]) -> Change:
    found = paired_difference(theirs, ours)
    assert found is not None
    row = replace(row, test="paired", difference=found.mean)
    if found.p is None:  # the same shift for every seed: no draw of seeds makes that
        return replace(row, state=UNKNOWN if math.isnan(found.mean) else CHANGED)
    return replace(row, low=found.low, high=found.high, p=found.p)


def _welch(row: Change, ours: Sequence[float], theirs: Sequence[float]) -> Change:
    from scipy.stats import ttest_ind

    if min(len(ours), len(theirs)) < 2:
        return replace(row, test="one seed: its noise is not known")
    if max(ours) == min(ours) and max(theirs) == min(theirs):
        return replace(row, test="Welch", state=SAME if ours[0] == theirs[0] else CHANGED)
    found = ttest_ind(theirs, ours, equal_var=False)
    interval = found.confidence_interval(1 - LEVEL)
    return replace(row, test="Welch", low=float(interval.low), high=float(interval.high), p=float(found.pvalue))


def _judged(row: Change) -> Change:
    if row.p_holm is None or math.isnan(row.p_holm):
        return row
    return replace(row, state=CHANGED if row.p_holm < LEVEL else SAME)


def _scores(group: Group, seed: int) -> dict[str, float]:
    """Everything measured on the test splits, in the selected epoch and at the end."""
    run = next(run for run in group.finished if run.seed == seed)
    moments = (("best", run.best), ("last", run.last))
    return {f"{name}.{k}": v for name, one in moments if one is not None for k, v in one.test.items()}


def _ratio(a: Group, b: Group, common: Sequence[int], paths: Sequence[tuple[str, str]]) -> float | None:
    """Of the first number that both sides have; over common seeds if there are any."""
    for path in paths:
        logs = []
        for group in (a, b):
            numbers = [run.number(*path) for run in group.finished if not common or run.seed in common]
            known = [math.log(number) for number in numbers if number is not None and number > 0]
            logs.append(sum(known) / len(known) if known else None)
        if logs[0] is not None and logs[1] is not None:
            return math.exp(logs[1] - logs[0])
    return None


def _words(groups: Sequence[Group]) -> dict[int, str]:
    """The settings that tell a group from the others of its task, model and method: 'rank=8 learning_rate=0.001'."""
    from ..report.groups import differing_keys, short_names, shown

    alike: dict[tuple[str, ...], list[Group]] = {}
    for group in groups:
        alike.setdefault((group.first.task, group.first.model, group.first.label), []).append(group)
    found: dict[int, str] = {}
    for members in alike.values():
        keys = [key for key in differing_keys(members) if not key.endswith("fingerprint")]
        names = short_names(keys)
        for group in members:
            found[id(group)] = " ".join(f"{names[key]}={shown(group.settings.get(key))}" for key in keys)
    return found


def _name(group: Group, words: dict[int, str]) -> str:
    first = group.first
    return " ".join(part for part in (first.task, first.model, first.label, words[id(group)]) if part)
