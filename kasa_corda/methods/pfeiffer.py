"""Pfeiffer adapters (arXiv 2005.00247, 2005.00052): one bottleneck per block, behind the feed-forward.

Post-norm blocks (BERT): LN(h + x + Up act(Down LN(h + x))), h the feed-forward's output and x its input. Pre-norm
blocks, as AdapterHub does it: y + Up act(Down y), y the block's output.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import METHODS
from ._bottleneck import BottleneckConfig, BottleneckMethod, after_ffn
from .base import AdaptContext, Facts

if TYPE_CHECKING:
    from torch import nn


@METHODS.register("pfeiffer")
class Pfeiffer(BottleneckMethod):
    facts = Facts(
        "bottleneck",
        "arXiv 2005.00247, 2005.00052; adapter-hub/adapters SeqBnConfig",
        "one non-linear bottleneck per block",
        merges=False,
        four_bit=True,
    )
    Config = BottleneckConfig

    def insert(self, model: nn.Module, context: AdaptContext) -> None:
        for block in self.blocks(model):
            after_ffn(model, block, self.maker(model, block))
