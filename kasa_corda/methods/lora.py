"""LoRA (arXiv 2106.09685): W x + s B A x, A Kaiming-uniform, B zero; rsLoRA and DoRA, its plain relatives."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from . import METHODS
from ._optimizers import LoraFamilyConfig, LoraOptimizers
from ._peft import PeftMethod, check_rank, lora_arguments
from .base import AdaptContext, Facts

if TYPE_CHECKING:
    from peft import PeftConfig
    from torch import nn


class LoraMethod(LoraOptimizers, PeftMethod):
    """A method whose layers are PEFT's LoRA."""

    Config = LoraFamilyConfig
    LEARNING_RATES: ClassVar[tuple[float, ...]] = (2e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2)

    def check(self, shapes: dict[str, tuple[int, int]]) -> None:
        check_rank(self.config.rank, shapes)
        self.check_optimizer()

    def arguments(self, context: AdaptContext) -> dict[str, Any]:
        """Arguments of PEFT's LoraConfig."""
        return lora_arguments(self.config, context)

    def peft_config(self, context: AdaptContext) -> PeftConfig:
        from peft import LoraConfig

        return LoraConfig(**self.arguments(context))

    def adapt(self, model: nn.Module, context: AdaptContext) -> nn.Module:
        adapted = super().adapt(model, context)
        self.hold(adapted)
        return adapted

    def save_as_lora(self, model: Any, directory: Path, base: str) -> None:
        self.save(model, directory, base)


@METHODS.register("lora")
class Lora(LoraMethod):
    """s = alpha / r."""

    facts = Facts("low rank", "arXiv 2106.09685", "A and B of every target layer", four_bit=True)


@METHODS.register("rslora")
class RsLora(LoraMethod):
    """s = alpha / sqrt(r): the size of the update no longer shrinks with the rank."""

    facts = Facts("low rank", "arXiv 2312.03732", "A and B of every target layer", four_bit=True)

    def arguments(self, context: AdaptContext) -> dict[str, Any]:
        return super().arguments(context) | {"use_rslora": True}


@METHODS.register("dora")
class Dora(LoraMethod):
    """W' = m (W + s B A) / ||W + s B A||: per output a trained magnitude m, at first ||W||, and a norm, which counts as
    a constant in the gradient."""

    facts = Facts(
        "low rank", "arXiv 2402.09353", "A and B of every target layer, one magnitude per output", four_bit=True
    )
    rescalable = False

    def arguments(self, context: AdaptContext) -> dict[str, Any]:
        return super().arguments(context) | {"use_dora": True}

    def save_as_lora(self, model: Any, directory: Path, base: str) -> None:
        return super(LoraMethod, self).save_as_lora(model, directory, base)
