"""PiSSA (arXiv 2404.02948): the adapter starts as the r largest singular components of W, the rest is frozen."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config.schema import LowRankConfig
from ..errors import KasaCordaError
from . import METHODS
from ._peft import PeftMethod, check_rank, lora_arguments
from .base import AdaptContext, Facts
from .lora import Lora

if TYPE_CHECKING:
    from peft import PeftConfig
    from torch import nn


@METHODS.register("pissa")
class Pissa(PeftMethod):
    """PEFT's initialisation; saved as a LoRA of rank 2r, so that plain PEFT loads it on the untouched base."""

    facts = Facts("low rank", "arXiv 2404.02948", "A and B, which start as the largest components of W")
    Config = LowRankConfig

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.initial: dict[str, Any] | None = None

    def check(self, shapes: dict[str, tuple[int, int]]) -> None:
        check_rank(self.config.rank, shapes)

    def peft_config(self, context: AdaptContext) -> PeftConfig:
        from peft import LoraConfig

        return LoraConfig(**lora_arguments(self.config, context), init_lora_weights="pissa")

    def adapt(self, model: nn.Module, context: AdaptContext) -> nn.Module:
        from peft.tuners.lora import LoraLayer

        if next(model.parameters()).is_meta:
            return Lora(self.config).adapt(model, context)  # the same shapes; there are no weights to decompose
        adapted: Any = super().adapt(model, context)
        layers: dict[str, Any] = {n: m for n, m in adapted.base_model.model.named_modules() if isinstance(m, LoraLayer)}
        self.initial = {
            name: (m.lora_A["default"].weight.detach().clone(), m.lora_B["default"].weight.detach().clone())
            for name, m in layers.items()
        }
        return adapted

    def save(self, model: Any, directory: Path, base: str) -> None:
        self.save_as_lora(model, directory, base)

    def save_as_lora(self, model: Any, directory: Path, base: str) -> None:
        from ..corda.storage import save_converted

        if self.initial is None:
            raise KasaCordaError("the converted form needs the adapter's start, which only the training run knows")
        save_converted(model, self.initial, directory, base)
