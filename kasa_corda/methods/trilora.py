"""TriLoRA (arXiv 2405.11236): W x + B diag(e) A x; A and B Kaiming-uniform, e zero, all three trained, no alpha / r."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..config.schema import MethodConfig, option
from . import METHODS
from ._linear_method import LowRankMethod
from ._peft import check_rank
from .base import Facts

if TYPE_CHECKING:
    from torch import nn

    from ._linear import LinearWrapper


@dataclass
class TriLoraConfig(MethodConfig):
    """Options of TriLoRA. The update has no scale."""

    rank: int = option(8, "rank r of the update", at_least=1)
    dropout: float = option(0.0, "dropout on the adapter's input", at_least=0, below=1)


@METHODS.register("trilora")
class TriLora(LowRankMethod):
    facts = Facts(
        "low rank",
        "arXiv 2405.11236; Chongjie-Si/Subspace-Tuning layers_trilora.py",
        "A, B and e of every target layer",
        four_bit=True,
    )
    Config = TriLoraConfig

    def check(self, shapes: dict[str, tuple[int, int]]) -> None:
        check_rank(self.config.rank, shapes)

    def wrap(self, name: str, layer: nn.Module) -> LinearWrapper:
        from ._linear import Diagonal

        return Diagonal(layer, self.config.rank, self.config.dropout)
