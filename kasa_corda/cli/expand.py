"""What stands for several values of a sweep: ``method=all``, ``method=kasa_table1``, ``trainer.learning_rate=grid``,
and ``tuned_seeds=0,1,2``, which runs the chosen learning rates again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..errors import ConfigError
from ..methods.groups import absence, members
from .explain import GRID, group_options

TUNED_SEEDS = "tuned_seeds"
"""the key of a sweep that asks for its second stage"""


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


def expanded(overrides: Sequence[str]) -> Line:
    """A line with its groups of methods written out, each method once."""
    line = Line([])
    for override in overrides:
        key, _, value = override.partition("=")
        if key == TUNED_SEEDS:
            line.tuned_seeds = _seeds(value)
            continue
        if key != "method":
            line.overrides.append(override)
            continue
        line.optional, line.absent = set(), {}  # the last method= counts
        line.overrides.append(f"method={','.join(_written_out(value.split(','), line))}")
    return line


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
    """The overrides that Hydra can compose: the grid of a method is known only once the method is."""
    return [override for override in overrides if override != GRID]


def each_rate(overrides: Sequence[str], method: str) -> list[list[str]]:
    """The overrides of one cell with the method's grid written out, one list per learning rate."""
    from ..methods import METHODS

    given = [override for override in overrides if override.startswith("trainer.learning_rate=")]
    if not given or given[-1] != GRID:
        return [without_grid(overrides)]
    rates = METHODS[method].LEARNING_RATES
    return [[*without_grid(overrides), f"trainer.learning_rate={rate}"] for rate in rates]
