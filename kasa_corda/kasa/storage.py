"""A trained KaSA on disk: PEFT's KaSA adapter where PEFT can express it, else an ordinary LoRA on the untouched base.

Beside PEFT's two files lies ``kasa.safetensors``: the bases that were cut (so that loading needs no
decomposition and gives the same weights) and whatever the PEFT form folds together.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from peft import KasaConfig, LoraConfig
from peft.utils.save_and_load import get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ..errors import DataError
from .layers import ADAPTER, PREFIX, adapter, attach, computable, layers
from .presets import Switches
from .truncation import cut_again

PEFT_FILE, NATIVE_FILE = "adapter_model.safetensors", "kasa.safetensors"


def peft_can_express(model: nn.Module, *, largest: bool) -> bool:
    """Whether PEFT's KaSA computes this model: nn.Linear, the r smallest of min(out, in) cut and folded everywhere."""
    return not largest and all(
        layer.cut is not None
        and layer.cut.placement == "fold"
        and layer.cut.rank == layer.r[ADAPTER]
        and not layer.fan_in_fan_out
        for _, layer in layers(model)
    )


def save(model: nn.Module, directory: Path, base: str, *, beta: float, gamma: float, largest: bool) -> None:
    """Write the adapter so that plain PEFT and ``load`` can both read it."""
    directory.mkdir(parents=True, exist_ok=True)
    as_kasa = peft_can_express(model, largest=largest)
    native: dict[str, Tensor] = {}
    placements: dict[str, dict[str, str]] = {}
    for name, layer in layers(model):
        _, core, B = adapter(layer)
        if layer.cut is not None:
            native[f"{name}.basis"] = layer.cut.basis
            placements[name] = {"side": layer.cut.side, "placement": layer.cut.placement}
        if not as_kasa or core.dim() == 2:
            native |= {f"{name}.lora_B": B, f"{name}.lora_diag": core}
    if as_kasa:
        _write_kasa(model, directory, base, beta=beta, gamma=gamma)
    else:
        save_lora(model, directory, base)
    _save_file(native, directory / NATIVE_FILE, {"cuts": json.dumps(placements)})


def save_lora(model: nn.Module, directory: Path, base: str) -> None:
    """An ordinary LoRA (scale 1) for the untouched base: B' = [s B core | -up], A' = [A ; down], W' = W - up down.

    Exact, since the truncation is itself of low rank. Layers that lose fewer components are padded with zeros.
    """
    state = _state(model)
    found = dict(layers(model))
    widest = max(layer.cut.rank if layer.cut else 0 for layer in found.values())
    for name, layer in found.items():
        A, core, B = (t.detach().float().cpu() for t in adapter(layer))
        update = (B * core if core.dim() == 1 else B @ core) * layer.scaling[ADAPTER]
        up, down = (layer.cut.up, layer.cut.down) if layer.cut else (B[:, :0], A[:0])
        missing = widest - up.shape[1]
        state.pop(f"{PREFIX}{name}.lora_diag")
        state[f"{PREFIX}{name}.lora_A.weight"] = torch.cat([A, down, A.new_zeros(missing, A.shape[1])])
        state[f"{PREFIX}{name}.lora_B.weight"] = torch.cat([update, -up, B.new_zeros(B.shape[0], missing)], dim=1)
    rank = next(iter(found.values())).r[ADAPTER] + widest
    _write(model, state, directory, base, r=rank, lora_alpha=rank, use_rslora=False)


def load(model: nn.Module, directory: Path, rank: int, alpha: float, switches: Switches) -> nn.Module:
    """The trained model on an untouched base, from the stored bases: no decomposition, the same numbers."""
    try:
        stored = json.loads((directory / "adapter_config.json").read_text())
        state, native = load_file(directory / PEFT_FILE), load_file(directory / NATIVE_FILE)
        with safe_open(directory / NATIVE_FILE, "pt") as file:
            cuts = json.loads(file.metadata()["cuts"])
    except Exception as error:
        raise DataError(f"the adapter in {directory} can't be read ({error}); train again with force=true") from None
    options = {key: stored[key] for key in ("task_type", "modules_to_save", "target_modules")}
    adapted = attach(model, options | {"r": rank, "lora_alpha": alpha}, switches)
    for name, layer in layers(adapted):
        key = f"{PREFIX}{name}"
        state[f"{key}.lora_A.weight"] = state[f"{key}.lora_A.weight"][:rank].contiguous()
        if f"{name}.lora_B" in native:
            state[f"{key}.lora_B.weight"] = native[f"{name}.lora_B"]
            state[f"{key}.lora_diag"] = native[f"{name}.lora_diag"]
        if name in cuts:
            layer.write(*cut_again(computable(layer.dense_weight()), native[f"{name}.basis"], **cuts[name]))
    set_peft_model_state_dict(adapted, state)
    return adapted.requires_grad_(False)


def _write_kasa(model: nn.Module, directory: Path, base: str, *, beta: float, gamma: float) -> None:
    """PEFT's KaSA form; a dense core is multiplied into B, with ones on the diagonal."""
    state = _state(model)
    for name, layer in layers(model):
        _, core, B = (t.detach() for t in adapter(layer))
        if core.dim() == 2:
            state[f"{PREFIX}{name}.lora_B.weight"] = (B @ core).cpu()
            state[f"{PREFIX}{name}.lora_diag"] = torch.ones(len(core))
    _write(model, state, directory, base, kasa_config=KasaConfig(beta=beta, gamma=gamma))


def _state(model: nn.Module) -> dict[str, Tensor]:
    """Adapter and head as PEFT names them, on the CPU."""
    state = get_peft_model_state_dict(model, save_embedding_layers=False)
    return {name: tensor.detach().cpu() for name, tensor in state.items()}


def _write(model: Any, state: dict[str, Tensor], directory: Path, base: str, **changes: Any) -> None:
    """adapter_config.json and adapter_model.safetensors; ``changes`` of the LoraConfig the layers were built with."""
    own = model.peft_config[ADAPTER]
    kept = ("task_type", "r", "lora_alpha", "lora_dropout", "target_modules", "modules_to_save", "use_rslora")
    conv1d = any(layer.fan_in_fan_out for _, layer in layers(model))
    options = {key: getattr(own, key) for key in kept} | {"fan_in_fan_out": conv1d} | changes
    directory.mkdir(parents=True, exist_ok=True)
    LoraConfig(**options, base_model_name_or_path=base, inference_mode=True).save_pretrained(str(directory))
    _save_file(state, directory / PEFT_FILE, {})


def _save_file(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    plain = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    save_file(plain, path, metadata={"format": "pt", **metadata})
