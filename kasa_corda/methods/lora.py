"""LoRA (arXiv 2106.09685): W x + (alpha / r) B A x, A Kaiming-uniform, B zero."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config.schema import LowRankConfig
from . import METHODS
from ._peft import PeftMethod, check_rank, lora_arguments
from .base import AdaptContext, Facts

if TYPE_CHECKING:
    from peft import PeftConfig


@METHODS.register("lora")
class Lora(PeftMethod):
    facts = Facts("low rank", "arXiv 2106.09685", "A and B of every target layer", four_bit=True)
    Config = LowRankConfig

    def check(self, shapes: dict[str, tuple[int, int]]) -> None:
        check_rank(self.config.rank, shapes)

    def peft_config(self, context: AdaptContext) -> PeftConfig:
        from peft import LoraConfig

        return LoraConfig(**lora_arguments(self.config, context))

    def save_as_lora(self, model: Any, directory: Path, base: str) -> None:
        self.save(model, directory, base)
