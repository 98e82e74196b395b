"""Everything about a request that can be wrong without looking at a model or data set."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from ..errors import ConfigError, unknown
from .schema import RunConfig


def typed(config: dict[str, Any]) -> RunConfig:
    """The plain config of one run as checked dataclasses; ConfigError where it does not fit the schema."""
    from ..evaluation import EVALUATORS
    from ..methods import METHODS
    from ..tasks import TASKS

    schema = OmegaConf.structured(RunConfig)
    OmegaConf.set_struct(schema, False)
    schema.method = METHODS[config["method"]["name"]].Config
    schema.task = TASKS[config["task"]["family"]].Config
    schema.evaluator = EVALUATORS[config["evaluator"]["name"]].Config
    try:
        return OmegaConf.to_object(OmegaConf.merge(schema, config))  # type: ignore[return-value]
    except MissingMandatoryValue as error:
        raise ConfigError(f"{error.full_key} is missing; give it on the command line") from None
    except OmegaConfBaseException as error:
        raise ConfigError(explain(error)) from None


def explain(error: OmegaConfBaseException) -> str:
    """OmegaConf's complaint as one sentence with the key."""
    first = str(error.msg or error).split("\n")[0]
    return f"{error.full_key}: {first}" if error.full_key else first


def validate(config: RunConfig) -> None:
    """ConfigError if any value, or any combination of values, cannot work."""
    _limits("", config)
    _combinations(config)
    _method_fits_model(config)


def _limits(prefix: str, node: Any) -> None:
    for f in dataclasses.fields(node):
        value, key = getattr(node, f.name), f"{prefix}{f.name}"
        if dataclasses.is_dataclass(value):
            _limits(f"{key}.", value)
        elif value is not None:
            _within(key, value, f.metadata)


def _within(key: str, value: Any, limits: Any) -> None:
    if "choices" in limits and value not in limits["choices"]:
        raise ConfigError(unknown(key, value, limits["choices"]))
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{key}={value} must be a finite number")
    checks = (
        ("above", "above", lambda bound: value > bound),
        ("at_least", "at least", lambda bound: value >= bound),
        ("below", "below", lambda bound: value < bound),
        ("at_most", "at most", lambda bound: value <= bound),
    )
    for name, words, holds in checks:
        if name in limits and not holds(limits[name]):
            raise ConfigError(f"{key}={value} must be {words} {limits[name]}")


def _combinations(config: RunConfig) -> None:
    from ..evaluation import EVALUATORS
    from ..tasks import TASKS
    from ..trackers import check_tracker

    model, task, trainer = config.model, config.task, config.trainer
    if task.kind == "generation" and model.kind == "encoder":
        raise ConfigError(
            f"task={task.name} generates text, which the encoder model={model.name} can't; "
            "choose a decoder such as model=smollm2_135m"
        )
    kinds = EVALUATORS[config.evaluator.name].kinds
    if task.kind not in kinds:
        raise ConfigError(
            f"evaluator={config.evaluator.name} scores {' and '.join(kinds)}, but task={task.name} is {task.kind}"
        )
    if task.max_length > model.max_positions:
        raise ConfigError(
            f"task.max_length={task.max_length} is above the {model.max_positions} positions of model={model.name}; "
            f"use task.max_length={model.max_positions} or less"
        )
    parts = trainer.accumulation * config.scale.devices
    if trainer.batch_size % parts:
        raise ConfigError(
            f"trainer.batch_size={trainer.batch_size} can't be split into "
            f"trainer.accumulation={trainer.accumulation} x scale.devices={config.scale.devices} equal parts; "
            "nearest that works: "
            f"{max(parts, round(trainer.batch_size / parts) * parts)}"
        )
    if trainer.warmup >= 1 and trainer.warmup != int(trainer.warmup):
        raise ConfigError(f"trainer.warmup={trainer.warmup} is neither a share below 1 nor a whole number of steps")
    if trainer.max_steps is not None and 1 < trainer.warmup > trainer.max_steps:
        raise ConfigError(
            f"trainer.warmup={trainer.warmup:g} steps is longer than trainer.max_steps={trainer.max_steps}"
        )
    check_tracker(config.tracker)
    TASKS[task.family](task).check()


def _method_fits_model(config: RunConfig) -> None:
    from ..methods import METHODS
    from ..models.architecture import match_targets
    from ..models.families import architecture_of

    model = dataclasses.asdict(config.model)
    architecture_of(model)
    method = METHODS[config.method.name](config.method)
    shapes = match_targets(model, config.method.target_modules) if method.adapts_layers else {}
    method.check(shapes)
