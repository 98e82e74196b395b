"""BitFit (arXiv 2106.10199): every bias is trained, and the task head; nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import ConfigError
from . import METHODS
from ._own import OwnMethod
from .base import AdaptContext, Facts

if TYPE_CHECKING:
    from torch import nn

NO_BIASES = "its layers have no biases, so BitFit would train nothing"


@METHODS.register("bitfit")
class BitFit(OwnMethod):
    """LayerNorm biases count. The bias of a fresh pooler trains only if the pooler is part of the trained head."""

    facts = Facts(
        "selection",
        "arXiv 2106.10199; benzakenelad/BitFit",
        "every bias",
        refuses=dict.fromkeys(("llama", "mistral", "gemma"), NO_BIASES),
    )
    adapts_layers = False
    scaled_by = None
    LEARNING_RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)

    def insert(self, model: nn.Module, context: AdaptContext) -> None:
        from ..models.blocks import family_of

        family, _ = family_of(model)
        fresh = set(family.fresh) | set(context.frozen)
        biases = [p for n, p in model.named_parameters() if n.endswith(".bias") and not fresh & set(n.split("."))]
        if not biases:
            raise ConfigError(f"method=bitfit can't adapt this model: {NO_BIASES}")
        for bias in biases:
            bias.requires_grad_(True)
