"""KaSA's layer on PEFT's LoRA machinery: W' x + s B core A x, for nn.Linear, Conv1D and quantised linears."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora.layer import Linear, LoraLayer, LoraVariant
from peft.utils.integrations import dequantize_module_weight
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers.pytorch_utils import Conv1D

from ..errors import ConfigError
from ..grouping import grouped
from ..spectral import SpectralCache
from .presets import Switches, components_cut
from .truncation import Cut, place, truncation_bases

ADAPTER, PREFIX = "default", "base_model.model."
AT_ONCE = 4 * 2**30


class KasaLinear(Linear):
    """PEFT's LoRA layer with a core between A and B (``lora_diag``: (r,) or (r, r)) and a truncated base."""

    def __init__(
        self, base_layer: nn.Module, adapter_name: str, config: LoraConfig, *, core: str, sigma_init: str, **kwargs: Any
    ) -> None:
        self.core, self.sigma_init = core, sigma_init
        super().__init__(base_layer, adapter_name, config, **kwargs)
        self.fan_in_fan_out = isinstance(self.get_base_layer(), Conv1D)
        self.cut: Cut | None = None
        self.register_buffer("cut_up", None, persistent=False)
        self.register_buffer("cut_down", None, persistent=False)

    def resolve_lora_variant(self, **_: Any) -> LoraVariant:
        return KasaVariant()

    @property
    def quantised(self) -> bool:
        """Whether the base weight can't be written to: packed integers, or a tensor class of a quantisation library."""
        weight = self.get_base_layer().weight
        return type(weight) is not nn.Parameter or not weight.dtype.is_floating_point

    def dense_weight(self) -> Tensor:
        """The base weight as the forward pass sees it, (out, in)."""
        base: Any = self.get_base_layer()
        stored = base.weight
        weight: Tensor = dequantize_module_weight(base).detach()
        base.weight = stored  # peft 0.21 replaces an 8-bit weight on the CPU, and the next forward pass fails
        return weight.T if self.fan_in_fan_out else weight

    def write(self, cut: Cut, weight: Tensor | None) -> None:
        """Take over a cut: write the truncated weight (out, in), or, without one, subtract in the forward pass."""
        self.cut = cut
        if weight is not None:
            base: Any = self.get_base_layer()
            base.weight.data.copy_(weight.T if self.fan_in_fan_out else weight)
        else:
            device = adapter(self)[0].device
            self.cut_up, self.cut_down = (-cut.up).to(device), cut.down.contiguous().to(device)

    def update(self) -> Tensor:
        """s B core A minus the part cut in the forward pass, float32 (out, in)."""
        A, core, B = (t.detach().float() for t in adapter(self))
        delta = (B * core if core.dim() == 1 else B @ core) @ A * self.scaling[ADAPTER]
        return delta if self.cut_up is None else delta + self.cut_up.float() @ self.cut_down.float()


class KasaVariant(LoraVariant):
    """The hooks PEFT calls. The truncation itself is done for all layers at once by ``truncate``."""

    def supports_lora_conversion(self) -> bool:
        return False

    @staticmethod
    def init(module: Any, adapter_name: str, config: Any = None, **kwargs: Any) -> None:
        """Draw sigma where PEFT draws it, so that the same seed gives the same initial adapter."""
        if not hasattr(module, "lora_diag"):
            module.lora_diag = nn.ParameterDict({})
            module.adapter_layer_names = (*module.adapter_layer_names, "lora_diag")
        like = module.lora_A[adapter_name].weight
        make = torch.randn if module.sigma_init == "normal" else torch.ones
        sigma = make(module.r[adapter_name], device=like.device, dtype=like.dtype)
        module.lora_diag[adapter_name] = nn.Parameter(torch.diag(sigma) if module.core == "dense" else sigma)

    @staticmethod
    def forward(module: Any, active_adapter: str, x: Tensor, result: Tensor, **kwargs: Any) -> Tensor:
        # the scale meets the (tokens, r) activations, not the (tokens, out) ones: cheaper than LoRA's own
        core = module.lora_diag[active_adapter] * module.scaling[active_adapter]
        h = module.lora_A[active_adapter](module.lora_dropout[active_adapter](x))  # (..., r)
        h = h * core if core.dim() == 1 else linear(h, core.to(h.dtype))
        result = result + module.lora_B[active_adapter](h)
        if module.cut_up is not None:
            result = result + linear(linear(x, module.cut_down), module.cut_up)
        return result

    @staticmethod
    def merge_safe(module: Any, active_adapter: str, orig_weight: Tensor) -> Tensor:
        if module.quantised:
            raise ConfigError("a quantised base can't take up the adapter without requantising; export it as a LoRA")
        update = module.update()
        merged = orig_weight.float() + (update.T if module.fan_in_fan_out else update)
        return merged.to(orig_weight.dtype)

    @staticmethod
    def merge_unsafe(module: Any, active_adapter: str, orig_weight: Tensor) -> None:
        orig_weight.data.copy_(KasaVariant.merge_safe(module, active_adapter, orig_weight))

    @staticmethod
    def unmerge(module: Any, active_adapter: str, orig_weight: Tensor) -> Tensor:
        update = module.update()
        return (orig_weight.float() - (update.T if module.fan_in_fan_out else update)).to(orig_weight.dtype)


def attach(model: nn.Module, options: dict[str, Any], switches: Switches) -> nn.Module:
    """Wrap the target layers and freeze the rest. ``options``: LoraConfig arguments. The base is not yet cut."""
    if any(isinstance(module, LoraLayer) for module in model.modules()):
        raise ConfigError("the model carries an adapter already, and KaSA cuts original weights: load the base again")
    _refuse_tied(model, options["target_modules"])
    config = LoraConfig(**options, use_rslora=switches.scaling == "rslora")
    layer = partial(KasaLinear, core=switches.core, sigma_init=switches.sigma_init)
    config._register_custom_module({nn.Linear: layer, Conv1D: layer})  # type: ignore[dict-item]
    adapted = get_peft_model(model, config)  # type: ignore[arg-type]
    for name, module in adapted.named_modules():
        if isinstance(module, LoraLayer) and not isinstance(module, KasaLinear):
            kind = type(module.get_base_layer()).__name__
            raise ConfigError(f"layer {name.removeprefix(PREFIX)} is a {kind}; KaSA adapts nn.Linear and Conv1D layers")
    return adapted


def layers(model: nn.Module) -> Iterator[tuple[str, KasaLinear]]:
    """Every KaSA layer, by its name in the base model."""
    for name, module in model.named_modules():
        if isinstance(module, KasaLinear):
            yield name.removeprefix(PREFIX), module


def adapter(layer: Any) -> tuple[Tensor, Tensor, Tensor]:
    """A (r, in), core (r,) or (r, r), and B (out, r) of one layer."""
    return layer.lora_A[ADAPTER].weight, layer.lora_diag[ADAPTER], layer.lora_B[ADAPTER].weight


def truncate(
    model: nn.Module, rank: int, switches: Switches, *, largest: bool = False, cache: SpectralCache | None = None
) -> list[dict[str, Any]]:
    """Cut every KaSA layer's base weight, on the GPU if there is one; one row of diagnostics per layer.

    Weights on the meta device are left alone.
    """
    rows = []
    for batch in _batches(model):
        weights = {name: computable(layer.dense_weight()) for name, layer in batch.items()}
        counts = {name: components_cut(w.shape[0], w.shape[1], rank, switches.keep) for name, w in weights.items()}
        losing = {name: count for name, count in counts.items() if count}
        subspaces = truncation_bases({name: weights[name] for name in losing}, losing, largest=largest, cache=cache)
        for name, layer in batch.items():
            row = {"layer": name, "out": weights[name].shape[0], "in": weights[name].shape[1], "cut": 0}
            if name in subspaces:
                cut, truncated, more = place(
                    weights[name], subspaces[name], switches.correction, quantised=layer.quantised
                )
                layer.write(cut, truncated)
                row |= more
            rows.append(row)
    return rows


def _batches(model: nn.Module) -> Iterator[dict[str, KasaLinear]]:
    """Layers that are decomposed together, so that no more than ``AT_ONCE`` bytes are copied or dequantised."""

    def sized() -> Iterator[tuple[tuple[str, KasaLinear], int]]:
        for name, layer in layers(model):
            if not layer.get_base_layer().weight.is_meta:
                A, _, B = adapter(layer)
                yield (name, layer), 4 * A.shape[1] * B.shape[0]

    return map(dict, grouped(sized(), AT_ONCE))


def computable(weight: Tensor) -> Tensor:
    """The weight where decompositions and float64 products are fastest."""
    return weight.cuda() if torch.cuda.is_available() else weight


def target_shapes(model: nn.Module, targets: list[str]) -> list[tuple[int, int]]:
    """(out, in) of every target layer of a model without adapters."""
    found: list[Any] = [module for name, module in model.named_modules() if _is_target(name, targets)]
    return [tuple(m.weight.shape[::-1] if isinstance(m, Conv1D) else m.weight.shape) for m in found]


def _is_target(name: str, targets: list[str]) -> bool:
    return any(name == target or name.endswith(f".{target}") for target in targets)


def _refuse_tied(model: nn.Module, targets: list[str]) -> None:
    """ConfigError if a target shares its weight with another module: cutting one would cut both."""
    owners: dict[int, list[str]] = {}
    for name, module in model.named_modules():
        weight = getattr(module, "weight", None)
        if isinstance(weight, nn.Parameter):
            owners.setdefault(id(weight), []).append(name)
    for names in owners.values():
        hit = next((name for name in names if _is_target(name, targets)), None)
        if hit and len(names) > 1:
            others = ", ".join(name for name in names if name != hit)
            raise ConfigError(
                f"layer {hit} shares its weight with {others}; truncating it would change both, so KaSA leaves tied"
                " layers alone: take it out of method.target_modules"
            )
