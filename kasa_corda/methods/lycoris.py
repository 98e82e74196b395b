"""LoHa (arXiv 2108.06098, LyCORIS) and LoKr (LyCORIS, arXiv 2309.14859): products other than B A.

LoHa: W + (alpha / r) (B1 A1) * (B2 A2), elementwise. LoKr: W + (alpha / r) W1 kron W2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..config.schema import MethodConfig, option
from ..errors import ConfigError
from . import METHODS
from ._peft import PeftMethod, check_rank, tuner_arguments
from .base import AdaptContext, Facts

if TYPE_CHECKING:
    from peft import PeftConfig

CONV1D = {"gpt2": "PEFT has it for nn.Linear only, and GPT-2's layers are Conv1D"}


@dataclass
class LohaConfig(MethodConfig):
    rank: int = option(8, "rank r of both factors; their product has up to r^2", at_least=1)
    alpha: float = option(16.0, "numerator of the scale alpha / r", above=0)
    module_dropout: float = option(0.0, "chance of leaving a layer's update out of a step", at_least=0, below=1)


@METHODS.register("loha")
class Loha(PeftMethod):
    facts = Facts(
        "low rank", "arXiv 2108.06098, LyCORIS", "A1, B1, A2 and B2 of every target layer", refuses=dict(CONV1D)
    )
    Config = LohaConfig
    LEARNING_RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)

    def check(self, shapes: dict[str, tuple[int, int]]) -> None:
        check_rank(self.config.rank, shapes)

    def peft_config(self, context: AdaptContext) -> PeftConfig:
        from peft import LoHaConfig as Peft

        return Peft(
            **tuner_arguments(context),
            r=self.config.rank,
            alpha=self.config.alpha,
            module_dropout=self.config.module_dropout,
        )


@dataclass
class LokrConfig(MethodConfig):
    rank: int = option(
        8, "rank r of W2 (and W1 with decompose_both), where its size is above 2 r; else it is stored whole", at_least=1
    )
    alpha: float = option(16.0, "numerator of the scale alpha / r", above=0)
    factor: int = option(-1, "size of W1 along each side; -1 is the largest divisor up to the square root", at_least=-1)
    decompose_both: bool = option(False, "W1 of low rank too, where it is large enough")
    init: str = option(
        "first", "the factor that starts at zero: first (PEFT), second (LyCORIS)", choices=("first", "second")
    )
    module_dropout: float = option(0.0, "chance of leaving a layer's update out of a step", at_least=0, below=1)


@METHODS.register("lokr")
class Lokr(PeftMethod):
    facts = Facts(
        "low rank", "LyCORIS, arXiv 2309.14859", "the Kronecker factors of every target layer", refuses=dict(CONV1D)
    )
    Config = LokrConfig
    LEARNING_RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)

    def check(self, shapes: dict[str, tuple[int, int]]) -> None:
        if self.config.factor == 0:
            raise ConfigError("method.factor=0 must be -1 (chosen by the size of the layer) or at least 1")

    def peft_config(self, context: AdaptContext) -> PeftConfig:
        from peft import LoKrConfig as Peft

        return Peft(
            **tuner_arguments(context),
            r=self.config.rank,
            alpha=self.config.alpha,
            decompose_factor=self.config.factor,
            decompose_both=self.config.decompose_both,
            init_weights="lycoris" if self.config.init == "second" else True,
            module_dropout=self.config.module_dropout,
        )
