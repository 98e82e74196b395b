"""FT-top: full fine-tuning of the last blocks alone (FT-Top2 of the LoRA and KaSA papers' GPT-2 tables)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..config.schema import MethodConfig, option
from ..errors import ConfigError
from . import METHODS
from ._own import OwnMethod
from .base import AdaptContext, Facts

if TYPE_CHECKING:
    from torch import nn


@dataclass
class TopConfig(MethodConfig):
    """Options of FT-top."""

    learning_rate: float = option(1e-4, "peak learning rate used where trainer.learning_rate is not given", above=0)
    blocks: int = option(2, "how many of the last blocks are trained", at_least=1)


@METHODS.register("ft_top")
class TopBlocks(OwnMethod):
    """Embeddings, the final LayerNorm and a language model's head stay frozen."""

    facts = Facts("selection", "arXiv 2106.09685 (FT-Top2 of its GPT-2 tables)", "every parameter of the last blocks")
    Config = TopConfig
    adapts_layers = False
    scaled_by = "blocks"
    LEARNING_RATES = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3)

    def insert(self, model: nn.Module, context: AdaptContext) -> None:
        from ..models.blocks import block_names

        names = block_names(model)
        if self.config.blocks > len(names):
            raise ConfigError(
                f"method.blocks={self.config.blocks} is more than the model's {len(names)} blocks; "
                f"use method.blocks={len(names)} or less"
            )
        for name in names[-self.config.blocks :]:
            model.get_submodule(name).requires_grad_(True)
