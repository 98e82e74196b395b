"""Orthogonal tuning: W R with R orthogonal, so that the angles between the neurons of a layer stay as they are.

OFT (arXiv 2306.07280): R of orthogonal blocks. BOFT (2311.06243): a product of such, with permutations between, and a
scale per output. HRA (2405.17484): a product of r Householder reflections.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..config.schema import MethodConfig, option
from ..errors import ConfigError
from . import METHODS
from ._peft import PeftMethod, check_rank, tuner_arguments
from .base import AdaptContext, Facts
from .lycoris import CONV1D

if TYPE_CHECKING:
    from peft import PeftConfig
    from torch import nn


@dataclass
class OftConfig(MethodConfig):
    block_size: int = option(32, "size b of the orthogonal blocks; divides the input features", at_least=2)
    neumann_terms: int = option(
        0, "Cayley transform by this many terms of a series (PEFT: 5); 0 is exact, as in the paper", at_least=0
    )
    dropout: float = option(0.0, "chance of a block being the identity in a step", at_least=0, below=1)


@METHODS.register("oft")
class Oft(PeftMethod):
    facts = Facts(
        "orthogonal", "arXiv 2306.07280", "b (b - 1) / 2 numbers per block of every target layer", refuses=dict(CONV1D)
    )
    Config = OftConfig
    scaled_by = "block_size"
    LEARNING_RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)

    def check(self, shapes: dict[str, tuple[int, int]]) -> None:
        check_block(self.config.block_size, shapes)

    def peft_config(self, context: AdaptContext) -> PeftConfig:
        from peft import OFTConfig as Peft

        terms = self.config.neumann_terms
        return Peft(
            **tuner_arguments(context),
            oft_block_size=self.config.block_size,
            use_cayley_neumann=terms > 0,
            num_cayley_neumann_terms=terms or 5,
            module_dropout=self.config.dropout,
        )


@dataclass
class BoftConfig(MethodConfig):
    block_size: int = option(4, "size b of the orthogonal blocks, even; divides the input features", at_least=2)
    factors: int = option(2, "butterfly factors m; 1 is OFT with a scale per output", at_least=1)
    dropout: float = option(
        0.0, "share of the blocks of one factor that are the identity in a step", at_least=0, below=1
    )


@METHODS.register("boft")
class Boft(PeftMethod):
    """PEFT counts b x b numbers a block, of which the skew-symmetric part acts. It holds an in x in permutation per
    factor and layer."""

    facts = Facts(
        "orthogonal", "arXiv 2311.06243", "the blocks of m factors and one scale per output", refuses=dict(CONV1D)
    )
    Config = BoftConfig
    scaled_by = "block_size"
    LEARNING_RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)

    def check(self, shapes: dict[str, tuple[int, int]]) -> None:
        size, factors = self.config.block_size, self.config.factors
        check_block(size, shapes)
        if factors == 1:
            return
        for name, (_, into) in shapes.items():
            if size % 2 or into % (size * 2 ** (factors - 1)):
                raise ConfigError(
                    f"method.factors={factors} needs an even method.block_size of which 2^{factors - 1} times divides"
                    f" the {into} input features of layer {name}; {size} doesn't fit"
                )

    def peft_config(self, context: AdaptContext) -> PeftConfig:
        from peft import BOFTConfig as Peft

        return Peft(
            **tuner_arguments(context),
            boft_block_size=self.config.block_size,
            boft_n_butterfly_factor=self.config.factors,
            boft_dropout=self.config.dropout,
        )

    def adapt(self, model: nn.Module, context: AdaptContext) -> nn.Module:
        from ._boft import any_device, without_permutations

        any_device()
        if next(model.parameters()).is_meta:
            with without_permutations():
                return super().adapt(model, context)
        return super().adapt(model, context)

    def load(self, model: nn.Module, directory: Path) -> nn.Module:
        from ._boft import any_device

        any_device()
        return super().load(model, directory)


@dataclass
class HraConfig(MethodConfig):
    rank: int = option(8, "number r of reflections, even: they start in pairs that cancel", at_least=2)


@METHODS.register("hra")
class Hra(PeftMethod):
    facts = Facts("orthogonal", "arXiv 2405.17484", "r vectors of every target layer", refuses=dict(CONV1D))
    Config = HraConfig
    LEARNING_RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)

    def check(self, shapes: dict[str, tuple[int, int]]) -> None:
        if self.config.rank % 2:
            raise ConfigError(f"method.rank={self.config.rank} must be even: reflections start in pairs that cancel")
        check_rank(self.config.rank, {name: (into, into) for name, (_, into) in shapes.items()})

    def peft_config(self, context: AdaptContext) -> PeftConfig:
        from peft import HRAConfig as Peft

        return Peft(**tuner_arguments(context), r=self.config.rank)


def check_block(size: int, shapes: dict[str, tuple[int, int]]) -> None:
    """ConfigError if blocks of that size don't fill the input of every layer; PEFT would take another size."""
    for name, (_, into) in shapes.items():
        if into % size:
            fitting = [n for n in range(2, into + 1) if all(width % n == 0 for _, width in shapes.values())]
            near = min(fitting, key=lambda n: abs(n - size), default=into)
            raise ConfigError(
                f"method.block_size={size} doesn't divide the {into} input features of layer {name}; nearest that"
                f" fits: {near}"
            )
