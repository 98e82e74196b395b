"""PEFT's AdaLoRA model without its penalty, and what is read from its layers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from peft.tuners.adalora import AdaLoraModel
from peft.tuners.adalora.layer import AdaLoraLayer
from peft.tuners.tuners_utils import BaseTuner
from torch import Tensor

Triplet = tuple[Tensor, Tensor, Tensor]
"""A (r, in), E (r, 1), B (out, r)"""


class Unpenalised(AdaLoraModel):
    """PEFT adds the penalty wherever labels are given: to an evaluation's loss too, and after loading it crashes."""

    forward = BaseTuner.forward


def without_penalty(model: Any) -> Any:
    """The PEFT model, whose ``outputs.loss`` is now the task's alone."""
    model.base_model.__class__ = Unpenalised
    return model


def triplets(model: Any) -> Iterator[tuple[str, Triplet]]:
    """Name and parameters of every adapted layer, in the order of the model."""
    layers: dict[str, Any] = {n: m for n, m in model.base_model.model.named_modules() if isinstance(m, AdaLoraLayer)}
    for name, layer in layers.items():
        yield name, (layer.lora_A["default"], layer.lora_E["default"], layer.lora_B["default"])


def rank_pattern(model: Any) -> dict[str, list[bool]]:
    """The rows that the model uses, as PEFT stores it; a layer pruned to nothing keeps one row of zero."""
    pattern = {}
    for name, (_, E, _) in triplets(model):
        kept = (E.detach().flatten() != 0).tolist()
        pattern[f"{name}.lora_E.default"] = kept if any(kept) else [True, *kept[1:]]
    return pattern
