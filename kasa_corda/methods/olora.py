"""OLoRA (arXiv 2406.01775): the adapter starts as the first r columns and rows of W = Q R."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from . import METHODS
from ._converted import ConvertedLora
from .base import AdaptContext, Facts

if TYPE_CHECKING:
    from torch import Tensor

    from ..starts.factors import Adapter


@METHODS.register("olora")
class Olora(ConvertedLora):
    """B = Q_r, A = R_r, W' = W - s Q_r R_r, as PEFT's, from a QR of r columns instead of all; also for Conv1D."""

    facts = Facts("low rank", "arXiv 2406.01775; code: huggingface/peft", "A and B, which start as QR factors of W")

    def start(self, weights: Mapping[str, Tensor], scale: float, context: AdaptContext) -> dict[str, Adapter]:
        from ..starts.factors import leading_qr

        return {name: leading_qr(W, self.config.rank) for name, W in weights.items()}
