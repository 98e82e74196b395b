"""LoRA-XS (arXiv 2405.17604): W x + (alpha / r) B R A x; A = S_r V_r^T and B = U_r of W's truncated SVD stay frozen."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config.schema import LowRankConfig, option
from ..errors import ConfigError, KasaCordaError
from . import METHODS
from ._linear_method import LowRankMethod
from ._peft import check_rank
from .base import AdaptContext, Facts

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ._linear import LinearWrapper


@dataclass
class LoraXsConfig(LowRankConfig):
    """Options of LoRA-XS; it trains rank x rank numbers per layer."""

    rank: int = option(25, "rank r of the update; r x r numbers per layer are trained", at_least=1)


@METHODS.register("lora_xs")
class LoraXs(LowRankMethod):
    """A and B come from the spectral kernels and their cache, and are stored: loading decomposes nothing."""

    Config = LoraXsConfig
    facts = Facts(
        "low rank",
        "arXiv 2405.17604; MohammadrezaBanaei/LoRA-XS",
        "R (r x r) of every target layer, which starts at N(0, 1e-5)",
        four_bit=True,
    )
    LEARNING_RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.factors: dict[str, tuple[Tensor, Tensor]] = {}
        """full layer name -> A (r, in) and B (out, r) of the weight, between ``prepare`` and ``adapt``"""
        self.reading = False

    def check(self, shapes: dict[str, tuple[int, int]]) -> None:
        check_rank(self.config.rank, shapes)
        for name, shape in shapes.items():
            if self.config.rank == min(shape):
                raise ConfigError(
                    f"method.rank={self.config.rank} truncates nothing of layer {name} ({shape[0]} x {shape[1]}); use"
                    f" method.rank={min(shape) - 1} or less"
                )

    def prepare(self, model: nn.Module, context: AdaptContext) -> None:
        from ._svd import largest_factors

        self.factors = largest_factors(model, context.targets, self.config.rank)

    def wrap(self, name: str, layer: nn.Module) -> LinearWrapper:
        import torch

        from ._linear import Dense

        wrapper = Dense(layer, self.config.rank, self.config.alpha / self.config.rank, self.config.dropout)
        if name in self.factors:
            A, B = self.factors.pop(name)
            with torch.no_grad():
                wrapper.A.copy_(A)
                wrapper.B.copy_(B)
        elif not (self.reading or wrapper.A.is_meta):
            raise KasaCordaError("method=lora_xs: prepare must come before adapt")
        return wrapper

    def load(self, model: nn.Module, directory: Path) -> nn.Module:
        self.reading = True
        return super().load(model, directory)
