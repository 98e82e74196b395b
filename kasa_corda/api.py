"""Adapting and evaluating a model that is already in memory, without a run directory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import cycle, islice
from typing import Any, NamedTuple

from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from .calibration.samples import Calibration
from .calibration.settings import CalibrationConfig
from .config.validate import check_limits
from .errors import ConfigError, unknown
from .methods import METHODS, Method
from .methods.base import AdaptContext
from .models.architecture import PRESETS, target_names
from .models.families import ARCHITECTURES

HEADS = ("classifier", "score")


class Adapted(NamedTuple):
    """A model ready to train. Add ``method.auxiliary_loss(model)``, if it isn't None, to the task loss."""

    model: nn.Module
    method: Method


def adapt(
    model: nn.Module,
    method: str,
    *,
    target_modules: str | Sequence[str] | None = None,
    calibration: Iterable[Mapping[str, Tensor]] | None = None,
    seed: int = 0,
    **options: Any,
) -> Adapted:
    """Insert the adapter of a registered method (``kasa``, ``corda_ipa``, ``lora``, ...) into a transformers model.

    target_modules: a preset (qv, five, all_linear, kv_down) or layer names, matched from the end; by default the
    method's own, mostly qv. calibration: batches of model inputs (input_ids, attention_mask), which CorDA needs; with
    labels for methods that look at gradients. options: keys of the method's config group (rank, alpha, variant, ...).
    The model is changed in place. ConfigError for an unknown method, option or layer.
    """
    chosen = METHODS[method]
    options = {"name": method, **options}
    fields = [name for name in chosen.Config.__dataclass_fields__ if name not in ("target_modules", "budget")]
    for key in options:
        if key not in fields:
            raise ConfigError(unknown(f"option of method {method}", key, fields))
    config = chosen.Config(**options)
    check_limits("method.", config)
    instance = chosen(config)
    architecture = str(getattr(getattr(model, "config", None), "model_type", None))
    if reason := chosen.facts.refuses.get(architecture):
        raise ConfigError(f"method {method} can't adapt {architecture} models: {reason}")
    shapes = _targets(model, target_modules or config.target_modules) if chosen.adapts_layers else {}
    instance.check(shapes)
    head = [name for name in HEADS if hasattr(model, name)]
    context = AdaptContext(list(shapes), head, "SEQ_CLS" if head else "CAUSAL_LM", seed, total_steps=0)
    if chosen.calibrated:
        if calibration is None:
            raise ConfigError(f"method {method} needs calibration: batches with input_ids and attention_mask")
        context = replace(context, calibration=_Given(list(calibration)))
    if chosen.needs_batches:
        if calibration is None:
            raise ConfigError(f"method {method} needs calibration: labelled batches of model inputs")
        given = [dict(batch) for batch in calibration]
        context = replace(context, batches=lambda count, size: islice(cycle(given), count))
    instance.prepare(model, context)
    return Adapted(instance.adapt(model, context), instance)


def evaluate(
    model: nn.Module, tokenizer: Any, task: str, *, data_dir: str | None = None, overrides: Sequence[str] = ()
) -> dict[str, float]:
    """Metrics of a model on a task's evaluation set, e.g. ``evaluate(model, tokenizer, "glue/sst2", data_dir=DATA)``.

    overrides: further keys of the command line, such as ``task.max_length=64`` or ``evaluator.batch_size=8``.
    """
    from .cli.compose import composed
    from .data import load_data
    from .evaluation import EVALUATORS
    from .progress import Progress

    folder = [] if data_dir is None else [f"data_dir={data_dir}"]
    kind = ["model=smollm2_135m"] if not any(hasattr(model, name) for name in HEADS) else []
    config = composed([f"task={task}", "method=lora", *kind, *folder, *overrides])
    loaded, data = load_data(config)
    evaluator = EVALUATORS[config.evaluator.name](config.evaluator)
    screen = Progress(show=False)
    return loaded.combine(
        {n: evaluator.evaluate(model, tokenizer, loaded, split, screen).scores for n, split in data.test.items()}
    )


def _targets(model: nn.Module, wanted: str | Sequence[str]) -> dict[str, tuple[int, int]]:
    """Full names and shapes (out, in) of the linear layers meant."""
    if isinstance(wanted, str) and wanted in PRESETS:
        architecture = str(getattr(getattr(model, "config", None), "model_type", None))
        if architecture not in ARCHITECTURES:
            raise ConfigError(unknown("model_type", architecture, ARCHITECTURES) + "; name the target_modules instead")
        names = target_names(architecture, wanted)
    else:
        names = [wanted] if isinstance(wanted, str) else list(wanted)
    linear = {n: m for n, m in model.named_modules() if isinstance(m, nn.Linear | Conv1D)}
    found: dict[str, tuple[int, int]] = {}
    for name in names:
        parts = name.split(".")
        matching = {n: m for n, m in linear.items() if _ends_with(n.split("."), parts)}
        if not matching:
            raise ConfigError(unknown("target_modules", name, sorted({n.rsplit(".", 1)[-1] for n in linear})))
        for full, layer in matching.items():
            weight: Any = layer.weight
            found[full] = tuple(weight.shape[::-1] if isinstance(layer, Conv1D) else weight.shape)
    return found


def _ends_with(name: list[str], parts: list[str]) -> bool:
    """Whether the components of a layer's name end with ``parts``, where * stands for any one of them."""
    tail = name[-len(parts) :]
    return len(tail) == len(parts) and all(want in ("*", have) for have, want in zip(tail, parts, strict=True))


class _Given(Calibration):
    """A calibration set that is batches already."""

    def __init__(self, batches: list[Mapping[str, Tensor]]) -> None:
        rows = [
            {"input_ids": ids[mask.bool()].tolist(), "attention_mask": [1] * int(mask.sum())}
            for batch in batches
            for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True)
        ]
        super().__init__(CalibrationConfig(), rows, None, "given batches")
        self.given = [dict(batch) for batch in batches]

    def batches(self) -> list[dict[str, Tensor]]:
        return self.given
