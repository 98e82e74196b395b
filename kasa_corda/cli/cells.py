"""The cells of a sweep: every combination of its values, composed and checked before the first one runs."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import ConfigCompositionException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from ..config import RunConfig
from ..errors import ConfigError, DataError, Unfit
from ..launch import prepare
from ..store import RunDirectory
from .expand import each_rate, expanded
from .explain import CONFIGS


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
    """seeds to run it with if its learning rate is the best of its kind (``cli.tuned``)"""

    def check(self, optional: Container[str] = ()) -> None:
        """Name the run directory, or record why the combination is impossible; ``optional`` methods need not fit."""
        try:
            self.config, self.directory = prepare(self.plain)
        except Unfit as error:
            if self.plain["method"]["name"] in optional:
                self.left_out = str(error)
            else:
                self.error = str(error)
        except (ConfigError, DataError) as error:
            self.error = str(error)

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
                score = result["best"]["test"][result["metric"]]
        where = str(self.directory.path) if self.directory else None
        told = {
            "label": self.plain.get("method", {}).get("label"),
            "learning_rate": self.plain.get("trainer", {}).get("learning_rate"),
            "seed": self.plain.get("seed"),
            "metric": self.plain.get("task", {}).get("metric"),
        }
        return {**names, **told, "state": state, "score": score, "error": error, "run_dir": where}


def checked_cells(hydra: Any, lines: Sequence[Sequence[str]]) -> list[Cell]:
    """Every combination of every line, checked; those that are ``left_out`` are not to be run."""
    parser = OverridesParser.create(config_loader=hydra.config_loader)
    cells = []
    for line in map(expanded, lines):
        for cell in compose_cells(hydra, parser.parse_overrides(line.overrides)):
            cell.tuned_seeds = line.tuned_seeds
            cell.check(line.optional)
            cells.append(cell)
    return cells


def first_combination(hydra: Any, overrides: Sequence[str]) -> list[str]:
    """The first cell's overrides, those of Hydra itself included."""
    parsed = OverridesParser.create(config_loader=hydra.config_loader).parse_overrides(list(overrides))
    (combinations,) = BasicSweeper.split_arguments(parsed, max_batch_size=None)
    return list(combinations[0])


def compose_cells(hydra: Any, overrides: list[Override]) -> list[Cell]:
    """Every combination, composed. Group choices are composed by Hydra once each; plain values are set on a copy.

    A key that is given twice has its last value, and overrides of Hydra itself belong to no cell.
    """
    own = [o for o in overrides if not o.key_or_group.startswith("hydra")]
    groups = {o.key_or_group for o in own if is_group(o)}
    composed: dict[tuple[str, ...], DictConfig] = {}
    cells = []
    (combinations,) = BasicSweeper.split_arguments(own, max_batch_size=None)
    for combination in combinations:
        slow = tuple(o for o in combination if o[0] in "+~" or o.split("=", 1)[0] in groups)
        if slow not in composed:
            composed[slow] = hydra.compose_config(
                "config", list(slow), run_mode=RunMode.RUN, with_log_configuration=False
            )
            with open_dict(composed[slow]):
                composed[slow].pop("hydra")
        for given in each_rate(combination, str(composed[slow].method.name)):
            config = composed[slow].copy()
            for override in OverridesParser.create().parse_overrides([o for o in given if o not in slow]):
                set_value(config, override)
            container = OmegaConf.to_container(config, resolve=True)
            assert isinstance(container, dict)
            cells.append(Cell(given, {str(key): value for key, value in container.items()}))
    return cells


def set_value(config: DictConfig, override: Override) -> None:
    """What Hydra does for key=value on an existing key, with its error for a key that does not exist."""
    try:
        OmegaConf.update(config, override.key_or_group, override.value(), merge=True)
    except Exception as error:
        raise ConfigCompositionException(f"Error merging override {override.input_line}") from error


def is_group(override: Override) -> bool:
    return (CONFIGS / override.key_or_group).is_dir()
