"""``method.budget=0.3M``: the rank (or width) whose number of trainable parameters comes nearest to a given one.

Counted on the meta device through the same code as dry runs, before anything is loaded.
"""

from __future__ import annotations

import json
import re
from copy import deepcopy
from dataclasses import asdict, dataclass, fields
from itertools import cycle
from typing import Any

from .config import MethodConfig, RunConfig
from .errors import ConfigError, Unfit

UNITS = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9}
LARGEST = 2**24
"""no option is tried above this"""
SEARCHED = 4096
"""the smallest value is looked for up to this"""


@dataclass(frozen=True)
class Choice:
    """What a budget came to."""

    budget: int
    option: str
    value: int
    count: int
    """trainable parameters without the task head"""

    def text(self) -> str:
        off = self.count - self.budget
        return (
            f"{self.budget:,} parameters asked for: {self.option} {self.value} trains {self.count:,} without the head"
            f" ({off:+,}, {100 * off / self.budget:+.2f} %)"
        )


def parsed(budget: Any) -> int | None:
    """300000, 3e5, "300k", "0.3M" as a number of parameters; None stays None."""
    if budget is None:
        return None
    found = re.fullmatch(r"(\d+\.?\d*(?:e\+?\d+)?)([kmb]?)", str(budget).strip().lower().replace("_", ""))
    if isinstance(budget, bool) or found is None or float(found[1]) == 0:
        raise ConfigError(f"method.budget={budget} must be a number of parameters above 0, such as 300000 or 0.3M")
    return round(float(found[1]) * UNITS[found[2]])


def scaling_option(method: MethodConfig) -> str | None:
    """The option of this method that a budget chooses; None if nothing scales."""
    from .methods import METHODS

    option = METHODS[method.name].scaled_by
    return option if option in {f.name for f in fields(method)} else None


def settle(config: RunConfig) -> None:
    """Replace the option that scales the method by what the budget asks for; nothing to do without a budget."""
    config.method.budget = parsed(config.method.budget)
    if config.method.budget is not None:
        choice = chosen(config)
        setattr(config.method, choice.option, choice.value)


def choice_of(method: MethodConfig, count: int) -> Choice | None:
    """The choice that a settled config holds; ``count``: its trainable parameters without the head."""
    option = scaling_option(method)
    if method.budget is None or option is None:
        return None
    return Choice(method.budget, option, getattr(method, option), count)


def chosen(config: RunConfig) -> Choice:
    """The value that comes nearest to the budget, the smaller of two that are equally near.

    Unfit if nothing scales, or if the smallest value that the method takes is already above the budget.
    """
    from .config.validate import check_limits, validate
    from .plan import planned_steps

    name, budget, option = config.method.name, config.method.budget, scaling_option(config.method)
    if option is None:
        raise Unfit(f"method.budget={budget}: nothing scales the parameters of method={name}; leave the budget out")
    check_limits("", config)
    steps = planned_steps(config)[1] or 0
    key = _key(config, option, steps)
    if key in _found:
        return _found[key]
    counts = Counts(config, option, steps)
    smallest = counts.smallest()
    if smallest is not None:
        setattr(config.method, option, smallest)
    validate(config)  # with what is surely taken, so that only other mistakes are named
    if smallest is None:
        raise Unfit(f"method.budget={budget}: no {option} up to {SEARCHED} fits method={name} on this model")
    if counts[smallest] > budget:
        raise Unfit(
            f"method.budget={budget} is below the {counts[smallest]:,} parameters that method={name} trains at least"
            f" on model={config.model.name} ({option} {smallest})"
        )
    value = nearest_value(counts, smallest, budget)
    _found[key] = Choice(budget, option, value, counts[value])
    return _found[key]


_found: dict[str, Choice] = {}


def _key(config: RunConfig, option: str, steps: int) -> str:
    """Everything that a count depends on."""
    method = {k: v for k, v in asdict(config.method).items() if k not in (option, "learning_rate", "label")}
    return json.dumps([asdict(config.model), asdict(config.task), method, steps], sort_keys=True, default=str)


class Counts:
    """Value of the option -> trainable parameters without the head, each counted once."""

    def __init__(self, config: RunConfig, option: str, steps: int) -> None:
        from .methods import METHODS
        from .models.architecture import match_targets

        self.config, self.option, self.steps = deepcopy(config), option, steps
        self.known: dict[int, int] = {}
        self.method = METHODS[config.method.name]
        targets = config.method.target_modules
        self.shapes = match_targets(asdict(config.model), targets) if self.method.adapts_layers else {}

    def __getitem__(self, value: int) -> int:
        from .plan import counted

        if value not in self.known:
            setattr(self.config.method, self.option, value)
            self.known[value] = counted(self.config, self.steps)[1]["adapter"]
        return self.known[value]

    def takes(self, value: int) -> bool:
        """Whether the method takes this value on this model."""
        from .config.validate import check_limits, check_options

        setattr(self.config.method, self.option, value)
        try:
            check_limits("method.", self.config.method)
            check_options(self.config, self.method(self.config.method), self.shapes)
        except ConfigError:
            return False
        return True

    def smallest(self) -> int | None:
        return next(filter(self.takes, range(1, SEARCHED + 1)), None)

    def between(self, low: int, high: int, guess: int) -> int | None:
        """The value that the method takes strictly between two others, nearest to a guess there; None if none is."""
        for away in range(high - low):
            for value in {guess - away, guess + away}:
                if low < value < high and self.takes(value):
                    return value
        return None


def nearest_value(counts: Counts, smallest: int, budget: int) -> int:
    """The value whose count is nearest to the budget; counts grow with the value. The smaller value where two are as
    near, or have the same count."""
    low, high = _bracket(counts, smallest, budget)
    if high is None or budget - counts[low] <= counts[high] - budget:
        high = _bracket(counts, smallest, counts[low])[1]
    assert high is not None
    return high


def _bracket(counts: Counts, smallest: int, budget: int) -> tuple[int, int | None]:
    """(the largest value below the budget, the smallest at or above it); None where the largest of all is below.

    The first is ``smallest`` if that is at the budget already.
    """
    low = high = smallest
    while counts[high] < budget:
        low = high
        found = counts.between(low, 2 * low + 1, 2 * low) or counts.between(2 * low, 4 * low + 1, 4 * low)
        if found is None or found > LARGEST:
            return low, None
        high = found
    for halve in cycle((False, False, True)):  # counts are mostly linear: two steps along the line end the search
        share = 0.5 if halve else (budget - counts[low]) / max(counts[high] - counts[low], 1)
        guess = low + min(max(int(share * (high - low)), 1), high - low - 1)
        value = counts.between(low, high, guess)
        if value is None:
            break
        low, high = (value, high) if counts[value] < budget else (low, value)
    return low, high
