"""MiSS (arXiv 2409.15371, successor of Bone): W x + D' (sum of x over groups), x cut into pieces of r, D (r, out)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..config.schema import MethodConfig, option
from ..errors import ConfigError
from . import METHODS
from ._peft import PeftMethod, tuner_arguments
from .base import AdaptContext, Facts
from .lycoris import CONV1D

if TYPE_CHECKING:
    from peft import PeftConfig


@dataclass
class MissConfig(MethodConfig):
    variant: str = option(
        "miss",
        "miss; bat (blocks of r x r, multiplied with W as well); mini (D of width mini_rank, repeated)",
        choices=("miss", "bat", "mini"),
    )
    rank: int = option(64, "rank r: the input is cut into pieces of r features", at_least=1)
    mini_rank: int = option(1, "width of D in variant mini; divides the output features", at_least=1)
    dropout: float = option(0.0, "dropout on the adapter's input", at_least=0, below=1)


@METHODS.register("miss")
class Miss(PeftMethod):
    facts = Facts("low rank", "arXiv 2409.15371", "D of every target layer", refuses=dict(CONV1D))
    Config = MissConfig
    LEARNING_RATES = (2e-5, 1e-4, 3e-4, 1e-3, 3e-3)

    def check(self, shapes: dict[str, tuple[int, int]]) -> None:
        variant, rank = self.config.variant, self.config.rank
        for name, (out, into) in shapes.items():
            if rank > into:
                raise ConfigError(f"method.rank={rank} is above the {into} input features of layer {name}")
            if variant == "bat" and (into % rank or out % rank):
                raise ConfigError(
                    f"method.variant=bat cuts layer {name} ({out} x {into}) into {rank} x {rank} blocks;"
                    " give a method.rank that divides both"
                )
            if variant == "mini" and out % self.config.mini_rank:
                raise ConfigError(
                    f"method.mini_rank={self.config.mini_rank} doesn't divide the {out} outputs of {name}"
                )

    def peft_config(self, context: AdaptContext) -> PeftConfig:
        from peft import MissConfig as Peft

        return Peft(
            **tuner_arguments(context),
            r=self.config.rank,
            mini_r=self.config.mini_rank,
            miss_dropout=self.config.dropout,
            init_weights=True if self.config.variant == "miss" else self.config.variant,
        )
