"""Houlsby adapters (arXiv 1902.00751): h + Up act(Down h) in every block, behind attention and feed-forward."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import METHODS
from ._bottleneck import BottleneckConfig, BottleneckMethod, activation, at_both_sublayers, width
from .base import AdaptContext, Facts

if TYPE_CHECKING:
    from torch import nn


@dataclass
class HoulsbyConfig(BottleneckConfig):
    """Options of Houlsby adapters."""

    bottleneck: int = width(8)
    activation: str = activation("swish")


@METHODS.register("houlsby")
class Houlsby(BottleneckMethod):
    facts = Facts(
        "bottleneck",
        "arXiv 1902.00751; microsoft/LoRA examples/NLU",
        "two non-linear bottlenecks per block",
        merges=False,
        four_bit=True,
    )
    Config = HoulsbyConfig

    def insert(self, model: nn.Module, context: AdaptContext) -> None:
        for block in self.blocks(model):
            at_both_sublayers(model, block, self.maker(model, block))
