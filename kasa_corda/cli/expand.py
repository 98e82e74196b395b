"""What stands for several values of a sweep: ``method=all``, ``method=kasa_table1``, ``trainer.learning_rate=grid`` or
``search``, and ``tuned_seeds=0,1,2``, which runs the chosen learning rates again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ..errors import ConfigError
from ..methods.groups import absence, members
from ..search.rates import window
from .explain import GRID, SEARCH, group_options

TUNED_SEEDS = "tuned_seeds"
"""the key of a sweep that asks for its second stage"""

JOBS = "jobs"
"""the key of a sweep that says how many runs share a GPU, or this machine's processor, at a time"""

RATE, TEST = "trainer.learning_rate=", "evaluator.test="


@dataclass
class Line:
    """The overrides of one sweep, with every group of methods written out."""

    overrides: list[str]
    optional: set[str] = field(default_factory=set)
    """methods that only a group brought in: they are left out where they do not fit"""
    absent: dict[str, str] = field(default_factory=dict)
    """methods of a group that can't run at all -> why"""
    tuned_seeds: tuple[int, ...] = ()
    """seeds of the learning rates that did best on held-out data (``cli.tuned``)"""
    jobs: int = 1
    """runs at a time on each GPU, or on the processor of a machine without"""


def expanded(overrides: Sequence[str]) -> Line:
    """A line with its groups of methods written out, each method once."""
    line = Line([])
    for override in overrides:
        key, _, value = override.partition("=")
        if key == TUNED_SEEDS:
            line.tuned_seeds = _seeds(value)
            continue
        if key == JOBS:
            line.jobs = _jobs(value)
            continue
        if key != "method":
            line.overrides.append(override)
            continue
        line.optional, line.absent = set(), {}  # the last method= counts
        line.overrides.append(f"method={','.join(_written_out(value.split(','), line))}")
    check_search(line)
    return line


def searches(overrides: Sequence[str]) -> bool:
    """Whether the learning rate is searched for; the last value of a key counts."""
    given = [override for override in overrides if override.startswith(RATE)]
    return bool(given) and given[-1] == SEARCH


def check_search(line: Line) -> None:
    """ConfigError if a line that searches says itself when the test set is looked at, and otherwise than it will be."""
    given = [override for override in line.overrides if override.startswith(TEST)]
    if not given or not searches(line.overrides):
        return
    wanted = given[-1].removeprefix(TEST).lower()
    if wanted != "false":
        raise ConfigError(
            f"{SEARCH} chooses without the test set, so {given[-1]} contradicts it; leave that out: only the runs with"
            f" {TUNED_SEEDS} are tested"
        )
    if line.tuned_seeds:
        raise ConfigError(
            f"{given[-1]} contradicts {TUNED_SEEDS}, with which the chosen learning rate is tested; leave out either"
        )


def check_seeds(seeds: Iterable[int], tuned: Sequence[int]) -> None:
    """ConfigError if a seed that chooses a learning rate would also judge it."""
    if common := sorted(set(seeds) & set(tuned)):
        raise ConfigError(
            f"{TUNED_SEEDS}={','.join(map(str, tuned))} and seed={','.join(map(str, common))} overlap: {SEARCH} needs"
            " fresh seeds for the chosen learning rate, such as seed=0,1 tuned_seeds=100,101,102,103,104"
        )


def _jobs(value: str) -> int:
    if not value.isdecimal() or int(value) < 1:
        raise ConfigError(f"{JOBS}={value} must be how many runs share a GPU (or the processor) at a time, such as 4")
    return int(value)


def _seeds(value: str) -> tuple[int, ...]:
    try:
        return tuple(dict.fromkeys(int(seed) for seed in value.split(",") if value))
    except ValueError:
        raise ConfigError(f"{TUNED_SEEDS}={value} must be seeds such as 0,1,2") from None


def _written_out(names: list[str], line: Line) -> list[str]:
    found: dict[str, None] = {}
    known = group_options("method")
    for name in names:
        group = members(name.strip())
        if group is None:
            found[name] = None
            continue
        for method in group:
            reason = absence(method) or ("" if method in known else f"configs/method/{method}.yaml is missing")
            if reason:
                line.absent[method] = reason
            elif method not in names:
                line.optional.add(method)
                found[method] = None
    return list(found)


def without_grid(overrides: Sequence[str]) -> list[str]:
    """The overrides that Hydra can compose: a method's grid and window are known only once the method is."""
    return [override for override in overrides if override not in (GRID, SEARCH)]


def each_rate(overrides: Sequence[str], method: str) -> list[list[str]]:
    """The overrides of one cell with the method's grid or window written out, one list per learning rate."""
    from ..methods import METHODS

    if searches(overrides):
        kept = [override for override in without_grid(overrides) if not override.startswith((RATE, TEST))]
        return [[*kept, f"{RATE}{rate}", f"{TEST}false"] for rate in window(method)]
    given = [override for override in overrides if override.startswith(RATE)]
    if not given or given[-1] != GRID:
        return [without_grid(overrides)]
    rates = METHODS[method].LEARNING_RATES
    return [[*without_grid(overrides), f"{RATE}{rate}"] for rate in rates]
