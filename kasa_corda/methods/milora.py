"""MiLoRA (arXiv 2406.09044): the adapter starts as the r smallest singular components of W, the rest is frozen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Optional

from ..config.schema import option
from . import METHODS
from ._converted import ConvertedLora, spectral_start
from ._optimizers import LoraFamilyConfig
from .base import AdaptContext, Facts

if TYPE_CHECKING:
    from torch import Tensor

    from ..starts.factors import Adapter


@dataclass
class MiloraConfig(LoraFamilyConfig):
    """LoRA's options."""

    alpha: Optional[float] = option(None, "numerator of the scale alpha / r; null is rank, the paper's", above=0)  # type: ignore[assignment]


@METHODS.register("milora")
class Milora(ConvertedLora):
    """B = U sqrt(S / s), A = sqrt(S / s) V^T of the r smallest components, by our spectral kernels.

    PEFT has no MiLoRA: its "mica" freezes the minor vectors in B and starts A at zero.
    """

    facts = Facts(
        "low rank", "arXiv 2406.09044; code: sufenlp/MiLoRA", "A and B, which start as the smallest components of W"
    )
    Config = MiloraConfig

    def arguments(self, context: AdaptContext) -> dict[str, Any]:
        return super().arguments(context) | {"lora_alpha": self.config.alpha or self.config.rank}

    def start(self, weights: Mapping[str, Tensor], scale: float, context: AdaptContext) -> dict[str, Adapter]:
        return spectral_start(weights, self.config.rank, scale, largest=False)
