"""What was tested at which learning rate, by model: the published rate and the one that a search chose."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from ...search.families import RATE, TEST, Family, families, rate_of
from ..groups import Group, build_groups, differing_keys, short_names, shown
from ..records import RunRecord


@dataclass(eq=False)
class Setting:
    """One method in one setting on one task, at every learning rate it was tested at."""

    family: Family
    name: str = ""
    """as shown: its label, with the settings that tell it from others of that label"""

    @property
    def first(self) -> RunRecord:
        return self.family.tested[0] if self.family.tested else self.family.first

    @cached_property
    def tested(self) -> dict[float, Group]:
        """rate -> its runs with test scores (of equal weights and data: the most)"""
        by_rate: dict[float, list[RunRecord]] = defaultdict(list)
        for run in self.family.tested:
            by_rate[rate_of(run)].append(run)
        groups = {rate: build_groups(by_rate[rate]) for rate in sorted(by_rate)}
        return {rate: max(found, key=lambda group: group.n) for rate, found in groups.items() if found}

    @cached_property
    def rows(self) -> list[tuple[str, float | None, Group]]:
        """(which rate, the rate, its runs): 'paper lr' and 'tuned lr', maybe of the same runs; 'no lr' untrained."""
        if not trains(self.first.method):
            untrained: list[tuple[str, float | None, Group]] = [("no lr", None, g) for g in self.tested.values()]
            return untrained[:1]
        tuned = self.family.chosen
        fresh = {run.path for run in self.family.fresh}
        found: list[tuple[str, float | None, Group]] = []
        for rate, group in self.tested.items():
            chosen = tuned is not None and any(run.path in fresh for run in group.finished)
            if not chosen or len(self.tested) == 1:
                found.append(("paper lr", rate, group))
            if chosen:
                found.append(("tuned lr", rate, group))
        return sorted(found, key=lambda row: row[:2])

    def row(self, prefer: str = "tuned lr") -> tuple[str, float | None, Group] | None:
        """The row under the preferred rate, else another one."""
        return next((row for row in self.rows if row[0] == prefer), self.rows[0] if self.rows else None)


def trains(method: str) -> bool:
    """False for methods to which no learning rate matters."""
    from ...methods import METHODS

    return method not in METHODS.names() or METHODS[method].trains


@dataclass(eq=False)
class Place:
    """All settings of one model at one scale with one way of choosing the epoch."""

    model: str
    scale: str
    selection: str
    settings: list[Setting] = field(default_factory=list)

    @property
    def key(self) -> str:
        return f"{self.model}-{self.scale}-{self.selection}"

    @property
    def title(self) -> str:
        how = {"held_out": "epoch chosen on held-out data", "paper": "best epoch on the evaluation set (optimistic)"}
        return f"{self.model}, {self.scale} scale, {how.get(self.selection, self.selection)}"

    @property
    def tasks(self) -> list[str]:
        return sorted({setting.first.task for setting in self.settings})

    def on(self, task: str) -> list[Setting]:
        return [setting for setting in self.settings if setting.first.task == task]

    def by_name(self) -> dict[str, dict[str, Setting]]:
        """name -> task -> setting"""
        found: dict[str, dict[str, Setting]] = defaultdict(dict)
        for setting in self.settings:
            found[setting.name][setting.first.task] = setting
        return dict(sorted(found.items()))


def places(records: Iterable[RunRecord]) -> list[Place]:
    """Every setting with a finished run, by model, scale and selection, with names that tell them apart."""
    found: dict[tuple[str, str, str], Place] = {}
    for family in families(records):
        setting = Setting(family)
        key = (setting.first.model, setting.first.scale, setting.first.selection)
        found.setdefault(key, Place(*key)).settings.append(setting)
    for place in found.values():
        _name(place.settings)
    return [found[key] for key in sorted(found)]


def _name(settings: Sequence[Setting]) -> None:
    """The label alone for the setting of a label that most runs have; others with what differs from it."""
    of_label: dict[str, list[Setting]] = defaultdict(list)
    for setting in settings:
        of_label[setting.first.label].append(setting)
    for label, members in of_label.items():
        by_task: dict[str, list[Setting]] = defaultdict(list)
        for setting in members:
            by_task[setting.first.task].append(setting)
        keys: dict[str, None] = {}
        for same in by_task.values():
            for key in differing_keys(Group([setting.first]) for setting in same):
                if key not in (RATE, TEST) and not key.endswith("fingerprint"):
                    keys.setdefault(key)
        short = short_names(keys)
        values = {id(s): tuple(f"{short[k]}={shown(s.first.settings.get(k))}" for k in keys) for s in members}
        runs: dict[tuple[str, ...], int] = defaultdict(int)
        for setting in members:
            runs[values[id(setting)]] += len(setting.family.search) + len(setting.family.tested)
        usual = max(sorted(runs), key=lambda value: runs[value])
        for setting in members:
            other = [value for value, base in zip(values[id(setting)], usual, strict=True) if value != base]
            setting.name = f"{label} ({', '.join(other)})" if other else label
