"""AdapterL (Lin, Madotto and Fung, arXiv 2004.03829): y + Up relu(Down LN(y)) on every block's output y, with a
LayerNorm of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import METHODS
from ._bottleneck import BottleneckConfig, BottleneckMethod, width, wrap
from .base import AdaptContext, Facts

if TYPE_CHECKING:
    from torch import nn


@dataclass
class LinConfig(BottleneckConfig):
    """Options of AdapterL; ``train_norms`` means the model's own LayerNorms, the adapter's always train."""

    bottleneck: int = width(6)


@METHODS.register("adapter_l")
class AdapterLin(BottleneckMethod):
    facts = Facts(
        "bottleneck",
        "arXiv 2004.03829; zlinao/VGLM modeling_vlm.py",
        "one LayerNorm and non-linear bottleneck per block",
        merges=False,
        four_bit=True,
    )
    Config = LinConfig

    def insert(self, model: nn.Module, context: AdaptContext) -> None:
        from ._bottleneck_layers import After

        for block in self.blocks(model):
            wrap(model, block, After, self.maker(model, block, norm=True)())
