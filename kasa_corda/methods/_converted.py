"""What methods share whose adapter starts as something, with the frozen weight reduced by it: W = W' + s B0 A0.

Such an adapter means nothing on the untouched W, and starting it again at load is not safe: a randomised or
data-driven start comes out differently (PEFT's pissa_niter_N and LoRA-GA reload wrongly without a word). So A0 and B0
are kept, and the trained adapter is stored as a LoRA of rank 2r for the untouched W.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError, KasaCordaError
from ..grouping import grouped
from ._peft import check_rank
from .base import AdaptContext
from .lora import LoraMethod

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..starts.factors import Adapter

AT_ONCE = 2**30
"""numbers of weights that are decomposed together"""


class ConvertedLora(LoraMethod):
    """A LoRA with a start of its own: subclasses write ``start``."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.initial: dict[str, Adapter] = {}
        """full layer name -> A0 (r, in) and B0 (out, r), on the CPU"""
        self.layers: list[dict[str, Any]] = []
        """one row of diagnostics per layer"""
        self.notes: list[str] = []

    @abstractmethod
    def start(self, weights: Mapping[str, Tensor], scale: float, context: AdaptContext) -> dict[str, Adapter]:
        """A0 (r, in) and B0 (out, r) for some layers, by full name: their weights (out, in) and the scale s."""

    def check(self, shapes: dict[str, tuple[int, int]]) -> None:
        check_rank(self.config.rank, shapes, below_full=True)
        self.check_optimizer()

    def adapt(self, model: nn.Module, context: AdaptContext) -> nn.Module:
        import torch

        meta = next(model.parameters()).is_meta
        adapted = super().adapt(model, context)
        if not meta:  # else there are no weights to start from
            with torch.no_grad():
                for group in self._groups(adapted):
                    self._start(group, context)
        return adapted

    def check_weight(self, name: str, layer: Any) -> None:
        """ConfigError if the layer's weight can't be replaced."""
        if not layer.weight.is_floating_point():
            raise ConfigError(
                f"method={self.config.name} replaces weights, and layer {name} stores {layer.weight.dtype}: load the"
                " base unquantised, or use method=lora"
            )

    def _groups(self, adapted: Any) -> Iterator[dict[str, Any]]:
        """LoRA layers by full name, as many as fit in memory beside their float64 copies."""
        from peft.tuners.lora import LoraLayer

        def sized() -> Iterator[tuple[tuple[str, Any], int]]:
            for name, layer in adapted.base_model.model.named_modules():
                if isinstance(layer, LoraLayer):
                    base: Any = layer.get_base_layer()
                    self.check_weight(name, base)
                    yield (name, layer), base.weight.numel()

        return map(dict, grouped(sized(), AT_ONCE))

    def _start(self, group: dict[str, Any], context: AdaptContext) -> None:
        from ..corda.factors import residual_weight
        from ..corda.layers import set_weight, weight_of
        from ..kasa.layers import computable

        weights = {name: computable(weight_of(layer.get_base_layer()).detach()) for name, layer in group.items()}
        scale = next(iter(group.values())).scaling["default"]
        starts = self.start(weights, scale, context)
        for name, layer in group.items():
            down, up = layer.lora_A["default"].weight, layer.lora_B["default"].weight
            W = weights[name]
            A, B = (t.to(W.device, down.dtype) for t in starts[name])
            down.copy_(A)
            up.copy_(B)
            # ||B A||^2 = <B^T B, A A^T>
            product = ((B.T @ B).double() * (A @ A.T).double()).sum().clamp_min(0).sqrt()
            share = scale * product / W.double().norm()
            set_weight(layer.get_base_layer(), residual_weight(W, A, B, scale))  # W may be what this overwrites
            self.initial[name] = (A.cpu(), B.cpu())
            rows, columns = W.shape
            self.layers.append({"layer": name, "out": rows, "in": columns, "rank": len(A), "share": share.item()})

    def report(self) -> dict[str, Any]:
        return {"layers": self.layers, "notes": self.notes}

    def save(self, model: Any, directory: Path, base: str) -> None:
        self.save_as_lora(model, directory, base)

    def save_as_lora(self, model: Any, directory: Path, base: str) -> None:
        from ..corda.storage import save_converted

        if not self.initial:
            raise KasaCordaError("the converted form needs the adapter's start, which only the training run knows")
        save_converted(model, self.initial, directory, base)


def spectral_start(weights: Mapping[str, Tensor], rank: int, scale: float, *, largest: bool) -> dict[str, Adapter]:
    """The r largest or smallest singular components of each weight (out, in), by our kernels and their disk cache."""
    from ..kasa.truncation import truncation_bases
    from ..spectral import SpectralCache
    from ..starts.factors import balanced

    found = truncation_bases(dict(weights), dict.fromkeys(weights, rank), largest=largest, cache=SpectralCache())
    return {name: balanced(weights[name], found[name], scale) for name in weights}
