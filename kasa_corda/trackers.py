"""Curves beyond metrics.jsonl: wandb (offline by default) or tensorboard, through accelerate's trackers."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

from .config import TrackerConfig
from .errors import ConfigError
from .privacy import public
from .store import RunDirectory

if TYPE_CHECKING:
    from accelerate.tracking import GeneralTracker


def check_tracker(config: TrackerConfig) -> None:
    """ConfigError if the chosen tracker's package is not installed."""
    if config.name != "none" and importlib.util.find_spec(config.name) is None:
        raise ConfigError(f"tracker={config.name} needs the package {config.name}: pip install {config.name}")


def start_tracker(config: TrackerConfig, run: RunDirectory, settings: dict[str, Any]) -> GeneralTracker | None:
    """The tracker of this run, already told the run's settings; None for tracker=none."""
    if config.name == "none":
        return None
    tracker: GeneralTracker
    if config.name == "wandb":
        from accelerate.tracking import WandBTracker

        tracker = WandBTracker(
            config.project, mode=config.mode, dir=str(run.path), name=run.run_id, id=run.run_id, resume="allow"
        )
    else:
        from accelerate.tracking import TensorBoardTracker

        tracker = TensorBoardTracker("tensorboard", logging_dir=str(run.path))
    tracker.start()
    tracker.store_init_configuration(flat(public(settings)))
    return tracker


def flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings with dotted keys; lists as text."""
    result: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, dict):
            result |= flat(value, f"{prefix}{key}.")
        else:
            result[prefix + key] = value if isinstance(value, int | float | str | bool) else str(value)
    return result
