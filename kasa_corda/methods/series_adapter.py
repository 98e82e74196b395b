"""LLM-Adapters' series adapter (arXiv 2304.01933): x + Up tanh(Down x) without biases, in line with the feed-forward's
linear layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..config.schema import option
from . import METHODS
from ._bottleneck import BottleneckConfig, BottleneckMethod, activation, wrap
from .base import AdaptContext, Facts

if TYPE_CHECKING:
    from torch import nn


@dataclass
class SeriesConfig(BottleneckConfig):
    """Options of LLM-Adapters' series adapter."""

    activation: str = activation("tanh")
    variant: str = option(
        "output",
        "output: behind the feed-forward's last linear layer; input: before each of its first ones (LLaMA: gate and"
        " up), as the authors' LLaMA script has it",
        choices=("output", "input"),
    )


@METHODS.register("series_adapter")
class SeriesAdapter(BottleneckMethod):
    facts = Facts(
        "bottleneck",
        "arXiv 2304.01933; AGI-Edgerunners/LLM-Adapters peft/src/peft/tuners/bottleneck.py",
        "non-linear bottlenecks behind or before the feed-forward's linear layers",
        merges=False,
        four_bit=True,
    )
    Config = SeriesConfig

    def insert(self, model: nn.Module, context: AdaptContext) -> None:
        from ..models.blocks import family_of
        from ._bottleneck_layers import After, Before

        family, _ = family_of(model)
        kind, side = (After, 2) if self.config.variant == "output" else (Before, 1)
        layers = [linear[0] for linear in family.linears if linear[side] == "inner"]
        for block in self.blocks(model):
            make = self.maker(model, block, bias=False)
            for name in layers:
                wrap(model, f"{block}.{name}", kind, make())
