"""LoRA+ and LoRA-FA as methods of their own: LoRA with the optimizer fixed. On other methods: method.optimizer."""

from __future__ import annotations

from dataclasses import dataclass

from ..config.schema import option
from . import METHODS
from ._optimizers import LoraFamilyConfig
from .base import Facts
from .lora import LoraMethod


@dataclass
class LoraPlusConfig(LoraFamilyConfig):
    """LoRA's options."""

    optimizer: str = option("loraplus", "B learns lr_ratio times faster than A", choices=("loraplus",))


@dataclass
class LoraFaConfig(LoraFamilyConfig):
    """LoRA's options."""

    optimizer: str = option(
        "lorafa",
        "lorafa: the paper's form, AdamW on B; lorafa_peft: PEFT's, with a rescaled gradient of B",
        choices=("lorafa", "lorafa_peft"),
    )


@METHODS.register("lora_plus")
class LoraPlus(LoraMethod):
    """B learns ``lr_ratio`` times faster than everything else, which learns at the learning rate."""

    facts = Facts("low rank", "arXiv 2402.12354", "A and B of every target layer, B at a higher rate", four_bit=True)
    Config = LoraPlusConfig
    LEARNING_RATES = (1e-5, 5e-5, 2e-4, 5e-4, 1e-3)


@METHODS.register("lora_fa")
class LoraFa(LoraMethod):
    """A stays at its random start."""

    facts = Facts("low rank", "arXiv 2308.03303; code: huggingface/peft", "B of every target layer", four_bit=True)
    Config = LoraFaConfig
