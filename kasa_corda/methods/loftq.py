"""LoftQ (arXiv 2310.08659): W is replaced by its quantised form, and the adapter starts as what that loses most."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

from ..config.schema import option
from ..errors import ConfigError, DataError
from . import METHODS
from ._optimizers import LoraFamilyConfig
from ._peft import check_rank
from .base import AdaptContext, Facts
from .lora import LoraMethod

if TYPE_CHECKING:
    from torch import Tensor, nn

FILE = "quantised.safetensors"


@dataclass
class LoftqConfig(LoraFamilyConfig):
    """LoRA's options and the quantisation."""

    alpha: Optional[float] = option(None, "numerator of the scale alpha / r; null is rank", above=0)  # type: ignore[assignment]
    bits: int = option(4, "4 (nf4, blocks of 64) or 8 (int8, by row)", choices=(4, 8))
    steps: int = option(1, "rounds of quantising and decomposing the rest", at_least=1)


@METHODS.register("loftq")
class Loftq(LoraMethod):
    """W is near Q + s B A. Needs bitsandbytes, which quantises; the forward pass runs on Q in the base's dtype.

    Stored with the adapter: Q as bitsandbytes packs it (0.56 bytes per number in 4 bits), since Q - W has full rank.
    """

    facts = Facts(
        "low rank",
        "arXiv 2310.08659; code: huggingface/peft",
        "A and B, which start as the largest components of the quantisation error",
        identity=False,
    )
    Config = LoftqConfig

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.packed: dict[str, tuple[Tensor, Tensor]] = {}
        self.layers: list[dict[str, Any]] = []

    def check(self, shapes: dict[str, tuple[int, int]]) -> None:
        check_rank(self.config.rank, shapes, below_full=True)
        self.check_optimizer()
        needs_bitsandbytes()

    def arguments(self, context: AdaptContext) -> dict[str, Any]:
        return super().arguments(context) | {"lora_alpha": self.config.alpha or self.config.rank}

    def adapt(self, model: nn.Module, context: AdaptContext) -> nn.Module:
        import torch
        from peft.tuners.lora import LoraLayer

        from ..corda.layers import set_weight, weight_of
        from ..kasa.layers import computable
        from ..starts.quantised import loftq, restored

        adapted: Any = super().adapt(model, context)
        if next(model.parameters()).is_meta:
            return adapted
        c = self.config
        for name, layer in adapted.base_model.model.named_modules():
            if not isinstance(layer, LoraLayer):
                continue
            base: Any = layer.get_base_layer()
            if not base.weight.is_floating_point():
                raise ConfigError(
                    f"method=loftq quantises weights, and layer {name} is quantised already: load the base"
                )
            with torch.no_grad():
                W = computable(weight_of(base).detach()).float()
                packed, (A, B) = loftq(W, c.rank, c.bits, c.steps, layer.scaling["default"], name)
                Q = restored(packed, (W.shape[0], W.shape[1]), c.bits)
                layer.lora_A["default"].weight.copy_(A)  # type: ignore[operator]
                layer.lora_B["default"].weight.copy_(B)  # type: ignore[operator]
                rest = W - Q - layer.scaling["default"] * (B @ A)
                lost, with_adapter = (float(part.norm() / W.norm()) for part in (W - Q, rest))
                set_weight(base, Q)  # W may be the very tensor that this overwrites
            self.packed[name] = (packed.codes.cpu(), packed.scales.cpu())
            self.layers.append({"layer": name, "lost": lost, "lost_with_adapter": with_adapter})
        return adapted

    def report(self) -> dict[str, Any]:
        return {"layers": self.layers}

    def save(self, model: Any, directory: Path, base: str) -> None:
        from safetensors.torch import save_file

        super().save(model, directory, base)
        tensors = {f"{name}.{key}": t for name, pair in self.packed.items() for key, t in zip(PARTS, pair, strict=True)}
        save_file(tensors, directory / FILE, metadata={"bits": str(self.config.bits)})

    def save_as_lora(self, model: Any, directory: Path, base: str) -> None:
        raise ConfigError("method=loftq changes W by more than a low rank, so it has no LoRA form; export it merged")

    def load(self, model: nn.Module, directory: Path) -> nn.Module:
        from safetensors import safe_open

        from ..corda.layers import set_weight, weight_of
        from ..starts.quantised import Packed, restored

        needs_bitsandbytes()
        try:
            with safe_open(directory / FILE, "pt") as file:
                bits = int(file.metadata()["bits"])
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        except Exception as error:
            raise DataError(f"{directory / FILE} can't be read: {error}") from None
        for name in dict.fromkeys(key.rpartition(".")[0] for key in tensors):
            layer = model.get_submodule(name)
            rows, columns = weight_of(layer).shape
            packed = Packed(*(tensors[f"{name}.{key}"] for key in PARTS))
            set_weight(layer, restored(packed, (rows, columns), bits).to(weight_of(layer)))
        return super().load(model, directory)


PARTS = ("codes", "scales")


def needs_bitsandbytes() -> None:
    """ConfigError if it is not installed."""
    if find_spec("bitsandbytes") is None:
        raise ConfigError(
            "method=loftq quantises with bitsandbytes, which is not installed; pip install bitsandbytes, or use"
            " method=pissa, which starts from the weight itself"
        )
