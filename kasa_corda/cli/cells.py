"""The cells of a sweep: every combination of its values, composed and checked before the first one runs."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import ConfigCompositionException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from ..config import RunConfig, run_id
from ..config.validate import check_limits
from ..errors import ConfigError, DataError, Unfit
from ..launch import prepare
from ..store import RunDirectory
from .expand import check_seeds, each_rate, expanded, searches
from .explain import CONFIGS

VARIED = re.compile(r"seed=\d+|trainer\.learning_rate=\d[\d.]*(e[-+]?\d+)?", re.IGNORECASE)
"""what most cells of a suite differ in: set without composing anew"""


@dataclass
class Cell:
    """One combination of a sweep: its overrides, and its run if the combination is possible."""

    overrides: list[str]
    plain: dict[str, Any]
    config: RunConfig | None = None
    directory: RunDirectory | None = None
    error: str | None = None
    left_out: str | None = None
    """why a method that only a group of methods brought in does not fit the model or the task"""
    tuned_seeds: tuple[int, ...] = ()
    """seeds to run it with if its learning rate is the best of its kind (``cli.tuned``, ``cli.search``)"""
    search: bool = False
    """whether it is a trial of a search, which leaves the test set alone"""
    _variations: dict[tuple[Any, ...], Cell] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def family(self) -> str:
        """Everything asked for but the seed and the learning rate."""
        trainer = {key: value for key, value in self.plain["trainer"].items() if key != "learning_rate"}
        return json.dumps({**self.plain, "trainer": trainer, "seed": None}, sort_keys=True, default=str)

    @property
    def rate(self) -> float:
        return float(self.plain["trainer"]["learning_rate"])

    @property
    def name(self) -> str:
        return " ".join(str(self.plain[key]["name"]) for key in ("task", "model", "method"))

    def variation(self, **values: Any) -> Cell:
        """The same but for these values, given as group__key, checked; the same cell whenever it is asked for."""
        asked = tuple(values.items())
        if asked in self._variations:
            return self._variations[asked]
        overrides, plain = list(self.overrides), dict(self.plain)
        for name, value in values.items():
            group, _, key = name.rpartition("__")
            override = f"{group}.{key}=" if group else f"{key}="
            shown = str(value).lower() if isinstance(value, bool) else value
            overrides = [*(o for o in overrides if not o.startswith(override)), f"{override}{shown}"]
            if group:
                plain[group] = {**plain.get(group, {}), key: value}
            else:
                plain[key] = value
        cell = self._variations[asked] = Cell(overrides, plain)
        cell.check()
        return cell

    def check(self, optional: Container[str] = (), like: Cell | None = None) -> None:
        """Name the run directory, or record why the combination is impossible; ``optional`` methods need not fit.

        ``like``: a possible cell of the same family, whose checks hold for this one too.
        """
        try:
            same = None if like is None else like.config
            self.config, self.directory = prepare(self.plain) if same is None else self._as(same)
        except Unfit as error:
            if self.plain["method"]["name"] in optional:
                self.left_out = str(error)
            else:
                self.error = str(error)
        except (ConfigError, DataError) as error:
            self.error = str(error)

    def _as(self, config: RunConfig) -> tuple[RunConfig, RunDirectory]:
        """What ``prepare`` would return, from the config of a cell of this family: in thousands of cells it counts."""
        trainer = dataclasses.replace(config.trainer, learning_rate=self.rate)
        own = dataclasses.replace(config, trainer=trainer, seed=self.plain["seed"])
        check_limits("", own)
        settings = dataclasses.asdict(own)
        return own, RunDirectory.of(settings, run_id(settings))

    def missing(self) -> bool:
        """Whether there is something to run."""
        if self.config is None or self.directory is None:
            return False
        return self.config.force or self.directory.state() != "finished"

    def row(self) -> dict[str, Any]:
        """What the final table shows."""
        names = {key: self.plain.get(key, {}).get("name") for key in ("task", "model", "method")}
        state, error, score = "impossible", self.error, None
        if self.directory is not None:
            state = self.directory.state()
            error = (self.directory.status() or {}).get("error")
            if state == "finished" and (result := self.directory.result()):
                score = result["best"]["test"].get(result["metric"])
        where = str(self.directory.path) if self.directory else None
        told = {
            "label": self.plain.get("method", {}).get("label"),
            "learning_rate": self.plain.get("trainer", {}).get("learning_rate"),
            "seed": self.plain.get("seed"),
            "metric": self.plain.get("task", {}).get("metric"),
        }
        return {**names, **told, "state": state, "score": score, "error": error, "run_dir": where}


def checked_cells(hydra: Any, lines: Sequence[Sequence[str]]) -> list[Cell]:
    """Every combination of every line, checked, each run once; those that are ``left_out`` are not to be run."""
    parser = OverridesParser.create(config_loader=hydra.config_loader)
    cells = []
    composed: dict[tuple[str, ...], DictConfig] = {}
    for line in map(expanded, lines):
        checked: dict[str, Cell] = {}
        for cell in compose_cells(hydra, parser.parse_overrides(line.overrides), composed):
            cell.tuned_seeds = line.tuned_seeds
            if cell.search:
                check_seeds([cell.plain["seed"]], line.tuned_seeds)
            cell.check(line.optional, checked.get(cell.family))
            if cell.config:
                checked.setdefault(cell.family, cell)
            cells.append(cell)
    return distinct(cells)


def distinct(cells: Sequence[Cell]) -> list[Cell]:
    """One cell per run: lines of several suites may ask for the same one, each with seeds of its own to go on with."""
    found: dict[Any, Cell] = {}
    for cell in cells:
        same = found.setdefault(cell.directory.path if cell.directory else id(cell), cell)
        same.tuned_seeds = tuple(dict.fromkeys((*same.tuned_seeds, *cell.tuned_seeds)))
        same.search |= cell.search
    return list(found.values())


def first_combination(hydra: Any, overrides: Sequence[str]) -> list[str]:
    """The first cell's overrides, those of Hydra itself included."""
    parsed = OverridesParser.create(config_loader=hydra.config_loader).parse_overrides(list(overrides))
    (combinations,) = BasicSweeper.split_arguments(parsed, max_batch_size=None)
    return list(combinations[0])


def compose_cells(
    hydra: Any, overrides: list[Override], before: dict[tuple[str, ...], DictConfig] | None = None
) -> list[Cell]:
    """Every combination, composed. Group choices are composed by Hydra once each; plain values are set on a copy.

    A key that is given twice has its last value, and overrides of Hydra itself belong to no cell. ``before``: what the
    line before composed, by group choices; it is replaced by what this one did.
    """
    before = {} if before is None else before
    own = [o for o in overrides if not o.key_or_group.startswith("hydra")]
    groups = {o.key_or_group for o in own if is_group(o)}
    composed: dict[tuple[str, ...], DictConfig] = {}
    plains: dict[tuple[Any, ...], dict[str, Any]] = {}
    cells = []
    (combinations,) = BasicSweeper.split_arguments(own, max_batch_size=None)
    for combination in combinations:
        slow = tuple(o for o in combination if o[0] in "+~" or o.split("=", 1)[0] in groups)
        if slow not in composed and slow in before:
            composed[slow] = before[slow]
        if slow not in composed:
            composed[slow] = hydra.compose_config(
                "config", list(slow), run_mode=RunMode.RUN, with_log_configuration=False
            )
            with open_dict(composed[slow]):
                composed[slow].pop("hydra")
        for given in each_rate(combination, str(composed[slow].method.name)):
            plainly = [o for o in given if o not in slow]
            varied = [o for o in plainly if VARIED.fullmatch(o)]
            fixed = (slow, *(o for o in plainly if o not in varied))
            if fixed not in plains:
                plains[fixed] = with_values(composed[slow], [*map(str, fixed[1:])])
            plain = dict(plains[fixed])
            for key, _, value in (o.partition("=") for o in varied):
                if key == "seed":
                    plain["seed"] = int(value)
                else:
                    plain["trainer"] = {**plain["trainer"], "learning_rate": float(value)}
            cells.append(Cell(given, plain, search=searches(combination)))
    before.clear()
    before.update(composed)
    return cells


def with_values(base: DictConfig, overrides: Sequence[str]) -> dict[str, Any]:
    """The plain config of ``base`` with plain values set on a copy."""
    config = base.copy()
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        set_value(config, override)
    container = OmegaConf.to_container(config, resolve=True)
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items()}


def set_value(config: DictConfig, override: Override) -> None:
    """What Hydra does for key=value on an existing key, with its error for a key that does not exist."""
    try:
        OmegaConf.update(config, override.key_or_group, override.value(), merge=True)
    except Exception as error:
        raise ConfigCompositionException(f"Error merging override {override.input_line}") from error


def is_group(override: Override) -> bool:
    return (CONFIGS / override.key_or_group).is_dir()
