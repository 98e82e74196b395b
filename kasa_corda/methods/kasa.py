"""KaSA (arXiv 2412.06071): drop the r smallest singular components, train (alpha / r) B diag(sigma) A.

The layers are PEFT's; the auxiliary loss is ours (``kasa_corda.regulariser``), since PEFT leaves it to the caller.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..config.schema import LowRankConfig, option
from ..errors import ConfigError
from . import METHODS
from ._peft import PeftMethod, check_rank, lora_arguments
from .base import AdaptContext

if TYPE_CHECKING:
    from peft import PeftConfig
    from torch import Tensor, nn


@dataclass
class KasaConfig(LowRankConfig):
    """Options of KaSA; beta and gamma mean different strengths in the two variants."""

    beta: float = option(1e-4, "weight of the L2 penalty on sigma (paper: L2)", at_least=0)
    gamma: float = option(1e-3, "weight of the orthogonality penalty on A and B (paper: L3)", at_least=0)
    variant: str = option(
        "peft",
        "whose auxiliary loss: peft sums over layers with r x r Grams; authors averages over layers with large Grams",
        choices=("peft", "authors"),
    )


@METHODS.register("kasa")
class Kasa(PeftMethod):
    Config = KasaConfig

    def check(self, shapes: dict[str, tuple[int, int]]) -> None:
        rank = self.config.rank
        check_rank(rank, shapes, below_full=True)
        if self.config.variant == "authors":
            for name, (rows, columns) in shapes.items():
                if columns - rank >= rows:
                    raise ConfigError(
                        f"method.variant=authors leaves layer {name} ({rows} x {columns}) untruncated, which PEFT's"
                        " layers can't do; use method.variant=peft or leave that layer out of method.target_modules"
                    )

    def peft_config(self, context: AdaptContext) -> PeftConfig:
        from peft import KasaConfig as PeftKasaConfig
        from peft import LoraConfig

        kasa = PeftKasaConfig(beta=self.config.beta, gamma=self.config.gamma)
        return LoraConfig(**lora_arguments(self.config, context), kasa_config=kasa)

    def auxiliary_loss(self, model: nn.Module) -> Tensor | None:
        from ..regulariser import kasa_regulariser

        return kasa_regulariser(adapters(model), self.config.beta, self.config.gamma, self.config.variant)


def adapters(model: Any) -> list[tuple[Tensor, Tensor, Tensor]]:
    """(A (r, in), sigma (r,), B (out, r)) of every adapted layer, in model order."""
    from peft.tuners.lora import LoraLayer

    layers: list[Any] = [layer for layer in model.modules() if isinstance(layer, LoraLayer)]
    return [
        (layer.lora_A[name].weight, layer.lora_diag[name], layer.lora_B[name].weight)
        for layer in layers
        for name in layer.lora_diag
    ]
