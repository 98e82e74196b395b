"""AdapterDrop (arXiv 2010.11918): adapters without those of the first n blocks, n fixed or drawn at every step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..config.schema import option
from ..errors import ConfigError
from . import METHODS
from ._bottleneck import BottleneckConfig, BottleneckMethod, after_ffn, at_both_sublayers, width
from .base import AdaptContext, Facts

if TYPE_CHECKING:
    from torch import nn


@dataclass
class AdapterDropConfig(BottleneckConfig):
    """Options of AdapterDrop."""

    bottleneck: int = width(48)
    form: str = option("pfeiffer", "which adapter is dropped", choices=("pfeiffer", "houlsby"))
    variant: str = option(
        "fixed",
        "fixed: the first blocks never have adapters; robust: every step drops those of the first n blocks, n uniform"
        " in 0 ... blocks - 1, drawn from the seed and the step",
        choices=("fixed", "robust"),
    )
    drop: int = option(
        5, "first blocks without adapters; robust: in evaluation only (0 evaluates with all)", at_least=0
    )


@METHODS.register("adapter_drop")
class AdapterDrop(BottleneckMethod):
    facts = Facts(
        "bottleneck",
        "arXiv 2010.11918",
        "non-linear bottlenecks of all but the first blocks",
        merges=False,
        four_bit=True,
    )
    Config = AdapterDropConfig

    def insert(self, model: nn.Module, context: AdaptContext) -> None:
        from ._bottleneck_layers import DroppableBottleneck

        blocks = self.blocks(model)
        if self.config.drop >= len(blocks):
            raise ConfigError(
                f"method.drop={self.config.drop} leaves no adapter in a model of {len(blocks)} blocks; "
                f"use method.drop={len(blocks) - 1} or less"
            )
        place = at_both_sublayers if self.config.form == "houlsby" else after_ffn
        for index, block in enumerate(blocks):
            if self.config.variant == "robust" or index >= self.config.drop:
                place(model, block, self.maker(model, block, kind=DroppableBottleneck, layer=index))
        if self.config.variant == "robust":
            self.drop_first(model, self.config.drop, training=False)

    def before_step(self, model: nn.Module, step: int) -> None:
        if self.config.variant == "robust":
            self.drop_first(model, self.drawn(model, step), training=True)

    def drawn(self, model: nn.Module, step: int) -> int:
        """n of one training step of the robust variant: 0 ... blocks - 1."""
        import numpy as np

        from ..models.blocks import block_names

        assert self.context is not None
        return int(np.random.default_rng([self.context.seed, step]).integers(len(block_names(model))))

    def drop_first(self, model: nn.Module, count: int, *, training: bool) -> None:
        """Drop the adapters of the first ``count`` blocks in training or in evaluation mode; the robust variant's can
        be evaluated at any count after one training."""
        from ._bottleneck_layers import DroppableBottleneck

        for module in model.modules():
            if isinstance(module, DroppableBottleneck):
                module.dropped[training] = module.layer < count
