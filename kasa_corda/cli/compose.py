"""One command line as a checked config, for scripts and benchmarks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from ..config import RunConfig, register
from ..errors import ConfigError
from ..launch import prepare
from .explain import CONFIGS, TRANSLATED, explained


def composed(overrides: Sequence[str]) -> RunConfig:
    """The checked config of ``python run.py *overrides``; ConfigError says what is wrong with them."""
    register(ConfigStore.instance())
    try:
        with initialize_config_dir(str(CONFIGS), version_base="1.3", job_name="run"):
            plain: Any = OmegaConf.to_container(compose("config", list(overrides)), resolve=True)
    except TRANSLATED as error:
        raise ConfigError(explained(error, list(overrides))) from None
    return prepare(plain)[0]
