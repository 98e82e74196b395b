"""Everything about a request that can be wrong without looking at a model or data set."""

from __future__ import annotations

import dataclasses
import math
from functools import cache
from os import W_OK, access, environ
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, MissingMandatoryValue, OmegaConfBaseException

from ..errors import ConfigError, Unfit, nearest, unknown
from ..store import is_inner
from .schema import RunConfig

if TYPE_CHECKING:
    from ..methods import Method


def typed(config: dict[str, Any]) -> RunConfig:
    """The plain config of one run as checked dataclasses; ConfigError where it does not fit the schema."""
    from ..calibration.settings import CalibrationConfig
    from ..evaluation import EVALUATORS
    from ..methods import METHODS
    from ..tasks import TASKS

    known = [f.name for f in dataclasses.fields(RunConfig)]
    for key in map(str, config):
        if key not in known:
            raise ConfigError(no_such_key(f"{key}={str(config.get(key))[:100]}", key, known))
    for group, key in (("method", "name"), ("task", "family"), ("evaluator", "name")):
        held = config.get(group)
        if not isinstance(held, dict) or not isinstance(held.get(key), str):
            raise ConfigError(f"{group}.{key} is missing; give a complete config")
    chosen: dict[str, Any] = {
        "method": METHODS[config["method"]["name"]].Config,
        "task": TASKS[config["task"]["family"]].Config,
        "calibration": CalibrationConfig,
        "evaluator": EVALUATORS[config["evaluator"]["name"]].Config,
    }
    try:
        return OmegaConf.to_object(OmegaConf.merge(_schema(**chosen), config))  # type: ignore[return-value]
    except MissingMandatoryValue as error:
        raise ConfigError(f"{error.full_key} is missing; give it on the command line") from None
    except RecursionError:
        raise ConfigError("the config is nested too deeply") from None
    except OmegaConfBaseException as error:
        raise ConfigError(explain(error, config)) from None


@cache
def _schema(**groups: type) -> DictConfig:
    """RunConfig with the chosen classes in the groups that have several."""
    schema = OmegaConf.structured(RunConfig)
    OmegaConf.set_struct(schema, False)
    schema.update(groups)
    return schema


def explain(error: OmegaConfBaseException, config: dict[str, Any]) -> str:
    """OmegaConf's complaint about a plain config as one sentence with the key."""
    if isinstance(error, ConfigKeyError) and dataclasses.is_dataclass(error.object_type):
        key = str(error.full_key)
        try:
            value = str(OmegaConf.select(OmegaConf.create(config), key))[:100]
        except (OmegaConfBaseException, RecursionError):
            value = "?"
        group = key.rpartition(".")[0]
        return no_such_key(f"{key}={value}", key, [f"{group}.{f.name}" for f in dataclasses.fields(error.object_type)])
    first = str(error.msg or error).split("\n")[0][:300]
    return f"{error.full_key}: {first}" if error.full_key else first


def no_such_key(given: str, key: str, known: list[str]) -> str:
    close = nearest(key, known)
    hint = f"; did you mean {' or '.join(close)}?" if close else f"; there are {', '.join(known)}"
    return f"{given}: there is no key {key}{hint}"


def validate(config: RunConfig) -> None:
    """ConfigError if any value, or any combination of values, cannot work."""
    check_limits("", config)
    _folders(config)
    _names(config)
    _combinations(config)
    _method_fits_model(config)


def check_limits(prefix: str, node: Any) -> None:
    """ConfigError for the first value of a config dataclass that is outside the limits of its field."""
    for f in dataclasses.fields(node):
        value, key = getattr(node, f.name), f"{prefix}{f.name}"
        if dataclasses.is_dataclass(value):
            check_limits(f"{key}.", value)
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


def _folders(config: RunConfig) -> None:
    """ConfigError if the data folder is not there, or the folder for runs can't be written."""
    origin, data_dir = "data_dir", config.data_dir
    if not data_dir:
        origin, data_dir = "KASA_CORDA_DATA", environ.get("KASA_CORDA_DATA")
    if data_dir and not Path(data_dir).expanduser().is_dir():
        raise ConfigError(f"{origin}={data_dir} is not a folder; give one that has the data, or none to use the hub")
    root = Path(config.run_root)
    existing = next(folder for folder in (root, *root.absolute().parents) if folder.exists())
    if not existing.is_dir() or not access(existing, W_OK):
        raise ConfigError(f"run_root={config.run_root} can't be written to ({existing}); choose another folder")


def _names(config: RunConfig) -> None:
    """ConfigError if a name would lead out of the run folder or the data folder, or hub code is not pinned."""
    from ..models.remote_code import check_remote_code

    check_remote_code(dataclasses.asdict(config.model))
    for key in ("task", "model", "method"):
        name = getattr(config, key).name
        if not is_inner(str(name)):
            raise ConfigError(f"{key}.name={name!r} can't name a folder of run_root: no '..', no / at its ends")
    further = getattr(config.task, "also_evaluate", None)
    tasks = {"task": dataclasses.asdict(config.task), **(further if isinstance(further, dict) else {})}
    for name, task in tasks.items():
        files = task.get("files")
        given = [task.get(key) for key in ("folder", "full_train", "validation_ids")]
        for several in files.values() if isinstance(files, dict) else ():
            given += several if isinstance(several, list) else [several]
        for path in [name, *given]:
            if path and not is_inner(str(path)):
                raise ConfigError(f"task={config.task.name}: {path!r} leads out of data_dir; use a path inside it")


def _combinations(config: RunConfig) -> None:
    from ..evaluation import EVALUATORS
    from ..methods import METHODS
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
    generated = getattr(task, "max_new_tokens", 0)
    if task.max_length + generated > model.max_positions:
        raise ConfigError(
            f"task.max_length={task.max_length} and task.max_new_tokens={generated} are together above the "
            f"{model.max_positions} positions of model={model.name}; lower either"
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
    if not (config.evaluator.test or METHODS[config.method.name].trains):
        raise ConfigError(
            f"evaluator.test=false leaves nothing to do for method={config.method.name}, which trains nothing"
        )
    if config.selection == "paper" and not config.evaluator.test:
        raise ConfigError(
            "selection=paper chooses on the evaluation set itself, which evaluator.test=false (a search for a learning"
            " rate) leaves alone; use selection=held_out"
        )
    checked = TASKS[task.family](task)
    checked.check()
    for name, further in getattr(checked, "further", {}).items():
        if further.config.max_length > model.max_positions:
            raise ConfigError(
                f"task.also_evaluate={name} reads {further.config.max_length} tokens at a time, above the "
                f"{model.max_positions} positions of model={model.name}; leave it out"
            )
    EVALUATORS[config.evaluator.name](config.evaluator).check(task)


def _method_fits_model(config: RunConfig) -> None:
    from ..calibration.settings import check_calibration
    from ..methods import METHODS
    from ..models.architecture import match_targets
    from ..models.families import architecture_of

    model = dataclasses.asdict(config.model)
    architecture_of(model)
    method = METHODS[config.method.name](config.method)
    if method.calibrated:
        check_calibration(config.calibration, config.model)
    reason = method.facts.refuses.get(config.model.architecture)
    if reason:
        raise Unfit(f"method={config.method.name} can't adapt {config.model.architecture} models: {reason}")
    files = getattr(config.task, "files", None)
    tested = isinstance(files, dict) and "train" not in files and not getattr(config.task, "train_percent", None)
    if method.trains and tested and config.task.kind == "generation":
        raise Unfit(
            f"task={config.task.name} has only a test set: method={config.method.name} can't train on it; evaluate it"
            f" with method=base, or beside a task that trains: task.also_evaluate=[{config.task.name}]"
        )
    if method.needs_head and config.task.kind == "generation":
        raise Unfit(
            f"method={config.method.name} trains a task head, which a language model doesn't have; use method=lora"
        )
    if method.needs_language_model and config.task.kind != "generation":
        raise Unfit(
            f"method={config.method.name} leaves the head of task={config.task.name} random; give a trained adapter"
            " (method=adapter method.path=DIR), or a task that generates text such as task=gsm8k"
        )
    if getattr(config.evaluator, "backend", "hf") == "vllm" and not method.facts.merges:
        raise Unfit(
            f"evaluator.backend=vllm reads merged weights, but method={config.method.name} can't be merged: it trains"
            f" {method.facts.trains}; use evaluator.backend=hf"
        )
    if config.trainer.gradient_checkpointing and not method.facts.checkpointing:
        raise Unfit(f"method={config.method.name} doesn't work with trainer.gradient_checkpointing=true; turn it off")
    if config.trainer.packing:
        _packable(config, method)
    shapes = match_targets(model, config.method.target_modules) if method.adapts_layers else {}
    check_options(config, method, shapes)


def _packable(config: RunConfig, method: Method) -> None:
    if config.task.kind != "generation":
        raise ConfigError(
            f"trainer.packing=true puts several examples into one row, but task={config.task.name} has one label per"
            " row; use trainer.packing=false"
        )
    if method.virtual_tokens or not method.facts.packing:
        what = "puts virtual tokens before a row" if method.virtual_tokens else "edits tokens by their place in a row"
        raise Unfit(f"method={config.method.name} {what}, which may hold several examples: use trainer.packing=false")


def check_options(config: RunConfig, method: Method, shapes: dict[str, tuple[int, int]]) -> None:
    """Unfit if the method's options contradict its target layers (name -> (out, in)) or the positions of the model."""
    tokens = config.task.max_length + getattr(config.task, "max_new_tokens", 0)
    if method.virtual_tokens and tokens + method.virtual_tokens > config.model.max_positions:
        raise Unfit(
            f"method.tokens={method.virtual_tokens} and the task's {tokens} tokens are together above the"
            f" {config.model.max_positions} positions of model={config.model.name}; lower task.max_length"
        )
    try:
        method.check(shapes)
    except ConfigError as error:
        raise Unfit(str(error)) from None
