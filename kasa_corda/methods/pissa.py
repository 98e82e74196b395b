"""PiSSA (arXiv 2404.02948): the adapter starts as the r largest singular components of W, the rest is frozen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Optional

from ..config.schema import option
from . import METHODS
from ._converted import ConvertedLora, spectral_start
from ._optimizers import LoraFamilyConfig
from .base import AdaptContext, Facts

if TYPE_CHECKING:
    from torch import Tensor

    from ..starts.factors import Adapter


@dataclass
class PissaConfig(LoraFamilyConfig):
    """LoRA's options and how the components are found."""

    niter: Optional[int] = option(
        None, "power iterations of a randomised SVD, PEFT's pissa_niter_N; null is exact", at_least=0
    )


@METHODS.register("pissa")
class Pissa(ConvertedLora):
    """B = U_r sqrt(S_r / s), A = sqrt(S_r / s) V_r^T, by our spectral kernels."""

    facts = Facts("low rank", "arXiv 2404.02948", "A and B, which start as the largest components of W")
    Config = PissaConfig

    def variant(self) -> str | None:
        fast = None if self.config.niter is None else f"niter_{self.config.niter}"
        return ", ".join(name for name in (fast, super().variant()) if name) or None

    def start(self, weights: Mapping[str, Tensor], scale: float, context: AdaptContext) -> dict[str, Adapter]:
        rank, iterations = self.config.rank, self.config.niter
        if iterations is None:
            return spectral_start(weights, rank, scale, largest=True)
        from ..starts.factors import randomised

        return {name: randomised(W, rank, iterations, scale, context.seed) for name, W in weights.items()}
