"""``task.also_evaluate=[nq_open]``: names of tasks become their settings, read from ``configs/task``."""

from __future__ import annotations

from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ..errors import ConfigError, unknown
from . import TASKS
from .base import Task

CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "task"


def completed(task: dict[str, Any]) -> dict[str, Any]:
    """A plain task config with the settings of its further tasks, so that the run keeps and is named by them."""
    wanted = task.get("also_evaluate")
    return {**task, "also_evaluate": further_settings(wanted)} if wanted else task


def further_settings(wanted: Any, key: str = "task.also_evaluate") -> dict[str, dict[str, Any]]:
    """Name -> settings. ``wanted``, the value of ``key``, is a name, a list of names, or has the settings already."""
    if isinstance(wanted, dict):
        return wanted
    names = [wanted] if isinstance(wanted, str) else list(wanted or [])
    return {name: deepcopy(_settings(name, key)) for name in names}


def further_task(settings: dict[str, Any]) -> Task:
    """The task of some settings."""
    family = TASKS[settings["family"]]
    try:
        config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(family.Config), settings))
    except OmegaConfBaseException as error:
        raise ConfigError(f"task.also_evaluate: {str(error.msg or error).splitlines()[0]}") from None
    return family(config)


@cache
def _settings(name: str, key: str) -> dict[str, Any]:
    file = CONFIGS / f"{name}.yaml"
    if not file.is_file():
        options = [str(path.relative_to(CONFIGS).with_suffix("")) for path in CONFIGS.rglob("*.yaml")]
        raise ConfigError(unknown(key, name, options))
    plain = OmegaConf.to_container(OmegaConf.load(file))
    assert isinstance(plain, dict)
    settings = {str(key): value for key, value in plain.items() if key != "defaults"}
    merged = OmegaConf.merge(OmegaConf.structured(TASKS[settings["family"]].Config), settings)
    complete = OmegaConf.to_container(merged)
    assert isinstance(complete, dict)
    return {str(key): value for key, value in complete.items()}
