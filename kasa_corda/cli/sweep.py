"""``python run.py -m method=kasa,lora seed=0,1,2``: compose and check every cell first, then run what is missing."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hydra import initialize_config_dir
from hydra._internal.callbacks import Callbacks
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from ..config import RunConfig
from ..errors import ConfigError, KasaCordaError
from ..interrupt import Interrupted
from ..launch import launch, prepare
from ..report.console import print_sweep
from ..store import RunDirectory
from .explain import CONFIGS


@dataclass
class Cell:
    """One combination of a sweep: its overrides, and its run if the combination is possible."""

    overrides: list[str]
    config: RunConfig | None = None
    directory: RunDirectory | None = None
    error: str | None = None
    plain: dict[str, Any] = field(default_factory=dict)

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
        seed = self.plain.get("seed")
        return {**names, "seed": seed, "state": state, "score": score, "error": error, "run_dir": where}


def sweep(arguments: Sequence[str]) -> int:
    """Run a sweep; 0 if every cell is finished, 1 if any failed, 2 if none is possible, 130 if interrupted."""
    with initialize_config_dir(str(CONFIGS), version_base="1.3", job_name="run"):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        parsed = OverridesParser.create(config_loader=hydra.config_loader).parse_overrides(list(arguments))
        base = hydra.compose_config("config", list(arguments), run_mode=RunMode.MULTIRUN, with_log_configuration=False)
        cells = [check(cell) for cell in compose_cells(hydra, parsed)]
        if all(cell.error for cell in cells):
            raise ConfigError(cells[0].error or "the sweep is empty")
        missing = {
            c.directory.path: c
            for c in cells
            if c.directory and c.config and (c.config.force or c.directory.state() != "finished")
        }
        print(announcement(cells, len(missing)), flush=True)
        if cells[0].config is not None and cells[0].config.dry_run:
            print_sweep([cell.row() for cell in cells])
            return 0
        interrupted = False
        if missing:
            share_threads(base)
            context = HydraContext(config_loader=hydra.config_loader, callbacks=Callbacks(base))
            launcher = Plugins.instance().instantiate_launcher(
                hydra_context=context, task_function=run_cell, config=base
            )
            try:
                launcher.launch([cell.overrides for cell in missing.values()], initial_job_idx=0)
            except (KeyboardInterrupt, Interrupted):
                interrupted = True
        rows = [cell.row() for cell in cells]
        print_sweep(rows)
        if interrupted:
            raise Interrupted("stopped; run the same command again to go on")
        return 0 if all(row["state"] == "finished" for row in rows) else 1


def compose_cells(hydra: Any, overrides: list[Override]) -> list[Cell]:
    """Every combination, composed. Group choices are composed by Hydra once each; plain values are set on a copy."""
    batches = BasicSweeper.split_arguments(overrides, max_batch_size=None)
    groups = {o.key_or_group for o in overrides if is_group(hydra, o)}
    composed: dict[tuple[str, ...], DictConfig] = {}
    cells = []
    for combination in (c for batch in batches for c in batch):
        wanted = [o for o in combination if not o.startswith("hydra")]
        quick = [o for o in wanted if o[0] not in "+~" and o.split("=", 1)[0] not in groups]
        slow = tuple(o for o in wanted if o not in quick)
        if slow not in composed:
            composed[slow] = hydra.compose_config(
                "config", list(slow), run_mode=RunMode.RUN, with_log_configuration=False
            )
            with open_dict(composed[slow]):
                composed[slow].pop("hydra")
        config = composed[slow].copy()
        values = OverridesParser.create().parse_overrides(quick)
        for override in values:
            set_value(config, override)
        container = OmegaConf.to_container(config, resolve=True)
        assert isinstance(container, dict)
        cells.append(Cell(list(combination), plain={str(k): v for k, v in container.items()}))
    return cells


def set_value(config: DictConfig, override: Override) -> None:
    """What Hydra does for key=value on an existing key, with its error for a key that does not exist."""
    try:
        OmegaConf.update(config, override.key_or_group, override.value(), merge=True)
    except Exception as error:
        from hydra.errors import ConfigCompositionException

        raise ConfigCompositionException(f"Error merging override {override.input_line}") from error


def is_group(hydra: Any, override: Override) -> bool:
    return bool(hydra.config_loader.get_group_options(override.key_or_group))


def check(cell: Cell) -> Cell:
    """Name the cell's run directory, or record why the combination is impossible."""
    try:
        cell.config, cell.directory = prepare(cell.plain)
    except ConfigError as error:
        cell.error = str(error)
    return cell


def announcement(cells: list[Cell], missing: int) -> str:
    impossible = [cell for cell in cells if cell.error]
    done = len(cells) - missing - len(impossible)
    lines = [f"sweep of {len(cells)} cells: {missing} to run, {done} finished earlier, {len(impossible)} impossible"]
    lines += [f"  impossible: {' '.join(cell.overrides)}: {cell.error}" for cell in impossible[:5]]
    if len(impossible) > 5:
        lines.append(f"  ... and {len(impossible) - 5} more")
    return "\n".join(lines)


def share_threads(base: DictConfig) -> None:
    """Divide the cores among cells that run at the same time on this machine."""
    workers = OmegaConf.select(base, "hydra.launcher.n_jobs", default=1) or 1
    cores = os.cpu_count() or 1
    workers = cores if workers < 0 else workers
    if workers > 1:
        os.environ["KASA_CORDA_THREADS"] = os.environ["OMP_NUM_THREADS"] = str(max(1, cores // workers))


def run_cell(config: DictConfig) -> None:
    """One cell, in this or another process. Failures are recorded in its status, never raised; an interruption is."""
    from . import plain

    try:
        checked, directory = prepare(plain(config))
        print(
            f"== {checked.task.name} {checked.model.name} {checked.method.name} seed={checked.seed}: {directory.path}",
            flush=True,
        )
        launch(checked, directory, sys.orig_argv)
    except Interrupted:
        raise KeyboardInterrupt from None
    except KasaCordaError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
