"""Parallel adapters: He et al.'s beside the feed-forward (arXiv 2110.04366), LLM-Adapters' beside single linear layers
(arXiv 2304.01933)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Optional

from ..config.schema import option
from . import METHODS
from ._bottleneck import ACTIVATIONS, BottleneckConfig, BottleneckMethod, wrap
from .base import AdaptContext, Facts

if TYPE_CHECKING:
    from torch import nn

VARIANTS: dict[str, dict[str, Any]] = {
    "he": {"activation": "relu", "scale": 4.0},
    "llm_adapters": {"activation": "tanh", "scale": 1.0},
}


@dataclass
class ParallelConfig(BottleneckConfig):
    """Options of parallel adapters."""

    variant: str = option(
        "he",
        "he: FFN(x) + s Up act(Down x), x the feed-forward's input; llm_adapters: W x + s Up act(Down x), without"
        " biases, at the layers up and down of the feed-forward",
        choices=tuple(VARIANTS),
    )
    activation: Optional[str] = option(  # type: ignore[assignment]
        None, "non-linearity of the bottleneck; null is the variant's: relu or tanh", choices=ACTIVATIONS
    )
    scale: Optional[float] = option(None, "factor s; null is the variant's: 4 or 1", above=0)


@METHODS.register("parallel_adapter")
class ParallelAdapter(BottleneckMethod):
    facts = Facts(
        "bottleneck",
        "arXiv 2110.04366; adapter-hub/adapters ParBnConfig; arXiv 2304.01933",
        "a non-linear bottleneck beside every feed-forward or its linear layers",
        merges=False,
        four_bit=True,
    )
    Config = ParallelConfig

    def insert(self, model: nn.Module, context: AdaptContext) -> None:
        insert = self._beside_ffn if self.config.variant == "he" else self._beside_linears
        chosen = {name: getattr(self.config, name) or value for name, value in VARIANTS[self.config.variant].items()}
        for block in self.blocks(model):
            insert(model, block, chosen)

    def _beside_ffn(self, model: nn.Module, block: str, chosen: dict[str, Any]) -> None:
        from ..models.blocks import family_of
        from ._bottleneck_layers import Beside, OnResidual

        _, parts = family_of(model)
        adapter = self.maker(model, block, **chosen)()
        # a post-norm block adds the feed-forward's input to its output: changing that is adding to the sum
        kind = OnResidual if parts.post_norm else Beside
        wrap(model, f"{block}.{parts.ffn}", kind, adapter)

    def _beside_linears(self, model: nn.Module, block: str, chosen: dict[str, Any]) -> None:
        from ..models.blocks import family_of
        from ._bottleneck_layers import Beside
        from ._linear import shape_of

        family, _ = family_of(model)
        for name in family.five[-2:]:
            out, into = shape_of(model.get_submodule(f"{block}.{name}"))
            adapter = self.maker(model, block, (into, out), bias=False, **chosen)()
            wrap(model, f"{block}.{name}", Beside, adapter)
