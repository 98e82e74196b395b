"""A trained adapter on a changed base (CorDA, PiSSA, ...) on disk in two forms, both read by plain PEFT."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from .state import Adapter

ADAPTER = "adapter_model.safetensors"
RESIDUAL = "residual.safetensors"


def save_converted(model: Any, initial: Mapping[str, Adapter], directory: Path, base: str) -> None:
    """An ordinary LoRA of rank 2r for the untouched base: A' = [A; A0], B' = [B, -B0].

    With W = residual + scale * B0 A0 the trained layer is W + scale * (B A - B0 A0). ``initial`` maps full layer names
    to A0 (r, in) and B0 (out, r).
    """
    state, config = _adapter_state(model), copy.deepcopy(model.peft_config["default"])
    for layer, (A0, B0) in initial.items():
        down, up = (f"base_model.model.{layer}.lora_{letter}.weight" for letter in "AB")
        state[down] = torch.cat([state[down], A0.to(state[down])])
        state[up] = torch.cat([state[up], -B0.to(state[up])], dim=1)
    factor = 2**0.5 if config.use_rslora else 2  # of alpha, which leaves the scale as it is
    config.r, config.lora_alpha = 2 * config.r, factor * config.lora_alpha
    config.rank_pattern = {layer: 2 * rank for layer, rank in config.rank_pattern.items()}
    config.alpha_pattern = {layer: factor * alpha for layer, alpha in config.alpha_pattern.items()}
    _write(state, config, directory, base)


def save_with_residual(model: Any, layers: Mapping[str, Any], directory: Path, base: str) -> None:
    """The adapter of rank r, and beside it the residual weights that have to replace those of the base first.

    ``layers`` maps full layer names of the base model to its adapted layers; ``load_residual`` is the other way.
    """
    _write(_adapter_state(model), copy.deepcopy(model.peft_config["default"]), directory, base)
    weights = {f"{name}.weight": layer.base_layer.weight for name, layer in layers.items()}
    save_file({name: w.detach().cpu().contiguous() for name, w in weights.items()}, directory / RESIDUAL)


@torch.no_grad()
def load_residual(model: nn.Module, directory: Path) -> None:
    """Put saved residual weights into a base model; nothing to do for the converted form, which has none."""
    file = directory / RESIDUAL
    if file.exists():
        parameters = dict(model.named_parameters())
        for name, weight in load_file(file).items():
            parameters[name].copy_(weight)


def _adapter_state(model: Any) -> dict[str, Tensor]:
    from peft import get_peft_model_state_dict

    return dict(get_peft_model_state_dict(model, save_embedding_layers=False))


def _write(state: dict[str, Tensor], config: Any, directory: Path, base: str) -> None:
    config.base_model_name_or_path, config.inference_mode, config.init_lora_weights = base, True, True
    directory.mkdir(parents=True, exist_ok=True)
    config.save_pretrained(directory)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    save_file(tensors, directory / ADAPTER, metadata={"format": "pt"})
