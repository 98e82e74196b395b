"""The run store as settings with their seeds, found fast by model, task and method."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..evaluation.units import higher_is_better
from ..report.groups import Group, build_groups
from ..report.records import DAMAGED, DUPLICATE, RunRecord
from ..search.families import Family, families, rate_of
from .conditions import matches, meets

RATE = "trainer.learning_rate"
COSTS = ("seconds", "peak_memory_bytes", "parameters", "loss")
"""first parts of dotted paths in result.json of which less is better"""


@dataclass
class Setting:
    """Runs that differ in the seed alone; in mode 'tuned' those at the rate that the search chose."""

    first: RunRecord
    settings: dict[str, Any]
    runs: dict[int, RunRecord] = field(default_factory=dict)
    """seed -> finished run with test scores"""
    states: dict[str, int] = field(default_factory=dict)
    """of the runs that did not finish"""
    notes: tuple[str, ...] = ()

    @property
    def trains(self) -> bool:
        """False for the untrained model and others that train nothing: they have no learning rate and no seed."""
        return trained(self.first.method)

    @property
    def rate(self) -> float | None:
        rates = {rate_of(run) for run in self.runs.values()} if self.trains else set()
        return rates.pop() if len(rates) == 1 and not any(map(math.isnan, rates)) else None


class Index:
    """All settings of a run store under one rule for the learning rate: 'paper' or 'tuned'."""

    def __init__(self, records: Iterable[RunRecord], lr: str) -> None:
        records = [record for record in records if record.state not in (DAMAGED, DUPLICATE)]
        self.lr = lr
        self._found: dict[tuple[str, str], dict[str, list[Setting]]] = defaultdict(lambda: defaultdict(list))
        for setting in _tuned(records) if lr == "tuned" else _groups(records):
            first = setting.first
            self._found[first.model, first.task][first.method].append(setting)

    def find(self, model: str, task: str, where: Mapping[str, Any], rate: float | None = None) -> list[Setting]:
        """Settings that meet ``where``; in mode 'paper' at ``rate``, if one is given. Also unfinished ones."""
        methods = self._found.get((model, task), {})
        asked = where.get("method")
        names = [name for name in methods if asked is None or matches(name, asked)]
        others = {key: value for key, value in where.items() if key not in ("method", "seed")}
        found = [s for name in names for s in methods[name] if meets(s.first, s.settings, others)]
        if "seed" in where:
            found = [_with_seeds(setting, where["seed"]) for setting in found]
        if self.lr == "paper" and rate is not None:
            found = [s for s in found if not s.trains or math.isclose(rate_of(s.first), rate, rel_tol=1e-6)]
        return found


def trained(method: str) -> bool:
    """Whether a method trains anything; of unknown ones: yes."""
    from ..methods import METHODS

    return bool(METHODS[method].trains) if method in METHODS.names() else True


def value(record: RunRecord, metric: str | None) -> float | None:
    """The record's own score, a key of best.test, or a dotted path in result.json."""
    if metric is None:
        return record.score
    if record.best is not None and metric in record.best.test:
        return record.best.test[metric]
    return record.number(*metric.split("."))


def more_is_better(metric: str | None, record: RunRecord) -> bool:
    if metric is None:
        return record.higher_is_better
    if record.best is None or metric not in record.best.test:
        head, _, tail = metric.partition(".")
        return not (tail and head in COSTS) and higher_is_better(metric.rpartition(".")[2])
    return higher_is_better(metric)


def _groups(records: list[RunRecord]) -> list[Setting]:
    tested = [record for record in records if record.tested]
    return [_of_group(group) for group in build_groups(tested)]


def _of_group(group: Group) -> Setting:
    runs = {run.seed: run for run in group.finished if run.seed is not None}
    return Setting(group.first, group.settings, runs, group.states())


def _tuned(records: list[RunRecord]) -> list[Setting]:
    return [_of_family(family) for family in families(records)]


def _of_family(family: Family) -> Setting:
    states = Counter(run.state for run in family.search if run.state != "finished")
    setting = Setting(family.first, dict(family.settings), states=dict(states))
    name = f"{family.first.label} on {family.first.task}"
    if not setting.trains:
        runs = family.tested
    elif family.search:
        runs = family.fresh
        if family.chosen is not None:
            words = f"learning rate {family.chosen:g} by search{f' ({family.note})' if family.note else ''}"
            setting.notes = (f"{name}: {words}",)
    else:
        runs, note = _by_selection(family)
        setting.notes = (f"{name}: {note}",)
    by_content: dict[tuple[Any, ...], list[RunRecord]] = defaultdict(list)
    for run in runs:
        by_content[tuple(sorted(run.fingerprints.items()))].append(run)
    if by_content:
        most = max(by_content.values(), key=len)
        setting.runs = {run.seed: run for run in most if run.seed is not None}
        setting.first = most[0]
        setting.settings |= {"task.metric": most[0].metric, **most[0].fingerprints}
    return setting


def _by_selection(family: Family) -> tuple[list[RunRecord], str]:
    """Without a search: of the rates with most seeds the one that did best on the selection split."""
    by_rate: dict[float, list[RunRecord]] = defaultdict(list)
    for run in family.tested:
        by_rate[rate_of(run)].append(run)
    if len(by_rate) < 2:
        return [], "no learning rate was searched"
    most = max(map(len, by_rate.values()))
    sign = 1 if family.higher_is_better else -1

    def merit(rate: float) -> float:
        scores = [run.select_score for run in by_rate[rate]]
        known = [score for score in scores if score is not None and not math.isnan(score)]
        return sign * sum(known) / len(known) if len(known) == len(scores) else -math.inf

    chosen = max((rate for rate, runs in by_rate.items() if len(runs) == most), key=merit)
    return by_rate[chosen], f"learning rate {chosen:g}, chosen on held-out scores of the same runs (no search was run)"


def _with_seeds(setting: Setting, seeds: Any) -> Setting:
    kept = {seed: run for seed, run in setting.runs.items() if matches(seed, seeds)}
    return Setting(setting.first, setting.settings, kept, setting.states, setting.notes)
