"""LoReFT (arXiv 2404.03592, Eq. 2): h + R^T (W h + b - R h) on the residual stream behind every block, at the first n
and the last m tokens of the prompt."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Optional

from ..config.schema import MethodConfig, option
from ..errors import ConfigError
from . import METHODS
from ._bottleneck import placement, wrap
from ._own import OwnMethod
from .base import AdaptContext, Facts

if TYPE_CHECKING:
    from torch import nn


@dataclass
class LoreftConfig(MethodConfig):
    """Options of LoReFT."""

    rank: int = option(8, "rows r of R (orthonormal) and W", at_least=1)
    positions: str = option(
        "f7+l7", "tokens that are edited: f7+l7 is the first 7 and the last 7 of the prompt, f1 one"
    )
    layers: Optional[list[int]] = option(None, "indices of the blocks whose output is edited; null is all")
    dropout: float = option(0.0, "dropout on the edited representation", at_least=0, below=1)


@METHODS.register("loreft")
class Loreft(OwnMethod):
    """The prompt is what comes before the first supervised token; a text without such tokens is all prompt, and so is
    one that is supervised from its first or second token on. Tokens that generation adds are never edited."""

    facts = Facts(
        "low rank",
        "arXiv 2404.03592; stanfordnlp/pyreft",
        "R, W and b behind every block, which edit some positions only",
        merges=False,
        identity=False,
        four_bit=True,
        packing=False,
    )
    Config = LoreftConfig
    adapts_layers = False
    LEARNING_RATES = (1e-4, 3e-4, 9e-4, 3e-3, 1e-2)

    def check(self, shapes: dict[str, tuple[int, int]]) -> None:
        counts(self.config.positions)

    def insert(self, model: nn.Module, context: AdaptContext) -> None:
        from ..models.blocks import block_names
        from ._loreft_layers import Intervention, Positions

        config: Any = model.config
        names = block_names(model)
        chosen = range(len(names)) if self.config.layers is None else self.config.layers
        if not chosen or not all(0 <= index < len(names) for index in chosen):
            raise ConfigError(f"method.layers={self.config.layers} must name some of the blocks 0 ... {len(names) - 1}")
        if self.config.rank > config.hidden_size:
            raise ConfigError(
                f"method.rank={self.config.rank} is above the width {config.hidden_size} of the residual stream; "
                f"use method.rank={config.hidden_size} or less"
            )
        positions = Positions(*counts(self.config.positions))
        positions.watch(model)
        for index in chosen:
            sizes = (config.hidden_size, self.config.rank, self.config.dropout)
            beside = placement(model.get_submodule(names[index]))
            wrap(model, names[index], Intervention, positions, *sizes, **beside)


def counts(positions: str) -> tuple[int, int]:
    """(first, last) of "f7+l3", "f7" or "l3"; ConfigError for another form, or for no position at all."""
    found = re.fullmatch(r"f(\d+)(?:\+l(\d+))?|l(\d+)", positions)
    first, last = (int(found[1] or 0), int(found[2] or found[3] or 0)) if found else (0, 0)
    if not first + last:
        raise ConfigError(f"method.positions={positions} must look like f7+l7, f1 or l1")
    return first, last
