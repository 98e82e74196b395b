"""What runs the cells of a sweep: our queue or a Hydra launcher (joblib, submitit, Ray), and its share of the cores."""

from __future__ import annotations

import importlib.util
import os
import sys
from typing import Any

from hydra._internal.callbacks import Callbacks
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.types import HydraContext
from omegaconf import DictConfig

from ..errors import ConfigError, KasaCordaError
from ..launch import prepare

EXTRAS = {"hydra_submitit_launcher": "slurm", "hydra_ray_launcher": "ray"}
"""plugin package -> the extra of this project that installs it"""


def check_launcher(base: DictConfig) -> None:
    """ConfigError if the chosen launcher's plugin is not installed; ``base`` is the composed sweep."""
    packages = base.hydra.launcher._target_.split(".")[:2]
    if packages[0] == "hydra_plugins" and importlib.util.find_spec(".".join(packages)) is None:
        raise ConfigError(
            f"hydra/launcher={base.hydra.runtime.choices['hydra/launcher']} needs the package"
            f" {packages[1].replace('_', '-')}: pip install 'kasa-corda[{EXTRAS[packages[1]]}]'"
        )


def uses_queue(base: DictConfig) -> bool:
    """Whether no launcher was chosen: then ``kasa_corda.queue`` runs the cells."""
    return bool(base.hydra.launcher._target_.endswith(".BasicLauncher"))


def run_cells(hydra: Any, base: DictConfig, cells: list[list[str]]) -> None:
    """Run cells, given by their overrides; they record their own state. KasaCordaError if the launcher itself fails."""
    from ..queue.shared import sharing

    share_threads(base, len(cells))
    context = HydraContext(config_loader=hydra.config_loader, callbacks=Callbacks(base))
    launcher = Plugins.instance().instantiate_launcher(hydra_context=context, task_function=run_cell, config=base)
    try:
        with sharing():
            launcher.launch(cells, initial_job_idx=0)
    except KasaCordaError:
        raise
    except Exception as error:
        name = base.hydra.runtime.choices["hydra/launcher"]
        first = str(error).strip().split("\n")[0]
        raise KasaCordaError(f"hydra/launcher={name} failed ({type(error).__name__}: {first})") from error


def share_threads(base: DictConfig, cells: int) -> None:
    """Divide the cores among cells that run at the same time on this machine."""
    workers, cores = min(cells, parallel_cells(base, cells)), os.cpu_count() or 1
    if workers > 1:
        os.environ["KASA_CORDA_THREADS"] = os.environ["OMP_NUM_THREADS"] = str(max(1, cores // workers))


def parallel_cells(base: DictConfig, cells: int) -> int:
    """How many cells the launcher runs at the same time on this machine; Slurm and Ray divide their own machines."""
    launcher = base.hydra.launcher
    if launcher._target_.endswith(".LocalLauncher"):
        return cells
    jobs = launcher.get("n_jobs") or 1
    return jobs if jobs > 0 else max(1, (os.cpu_count() or 1) + 1 + jobs)


def run_cell(config: DictConfig) -> None:
    """One cell, in this or another process. Failures are recorded in its status, never raised; an interruption is.

    A failure that may be gone next time is tried again at once, in smaller micro-batches if memory ran out.
    """
    from ..queue.attempt import twice
    from ..queue.shared import sharing
    from . import plain

    command = ["python", "run.py", *HydraConfig.get().overrides.task]
    try:
        checked, directory = prepare(plain(config))
        print(
            f"== {checked.task.name} {checked.model.name} {checked.method.name} seed={checked.seed}: {directory.path}",
            flush=True,
        )
        with sharing():  # a machine of a cluster does not have this process's environment
            ended, _ = twice(checked, directory, command)
        if ended.state == "interrupted":
            raise KeyboardInterrupt
        if ended.error:
            raise KasaCordaError(ended.error)
    except KasaCordaError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
