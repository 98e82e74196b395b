"""FourierFT (arXiv 2405.03003): W + scaling Re(ifft2(F)), F zero but for n trained entries at places drawn once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..config.schema import option
from ..errors import ConfigError
from . import METHODS
from ._peft import OwnHeadRate, PeftMethod, head_apart, tuner_arguments
from .base import AdaptContext, Facts

if TYPE_CHECKING:
    from peft import PeftConfig
    from torch import nn


@dataclass
class FourierFTConfig(OwnHeadRate):
    frequencies: int = option(1000, "trained entries n of each layer's spectrum", at_least=1)
    scaling: float = option(150.0, "factor of the inverse transform", above=0)
    location_seed: int = option(777, "seed of the places in the spectrum, the same for every layer", at_least=0)
    init: str = option(
        "zero",
        "start of the entries: zero leaves the model unchanged; normal is N(0, 1), PEFT's default, which doesn't",
        choices=("zero", "normal"),
    )


@METHODS.register("fourierft")
class FourierFT(PeftMethod):
    facts = Facts("spectral", "arXiv 2405.03003", "n entries of every target layer's spectrum")
    Config = FourierFTConfig
    scaled_by = "frequencies"
    LEARNING_RATES = (3e-3, 1e-2, 3e-2, 1e-1, 3e-1)

    def check(self, shapes: dict[str, tuple[int, int]]) -> None:
        name, (out, into) = min(shapes.items(), key=lambda item: item[1][0] * item[1][1])
        if self.config.frequencies > out * into:
            raise ConfigError(
                f"method.frequencies={self.config.frequencies} is more than the spectrum of layer {name} has;"
                f" use {out * into} or less"
            )

    def peft_config(self, context: AdaptContext) -> PeftConfig:
        from peft import FourierFTConfig as Peft

        self.head = context.head
        return Peft(
            **tuner_arguments(context),
            n_frequency=self.config.frequencies,
            scaling=self.config.scaling,
            random_loc_seed=self.config.location_seed,
            init_weights=self.config.init == "zero",
        )

    def parameter_groups(self, model: nn.Module, learning_rate: float) -> list[dict[str, Any]] | None:
        return head_apart(model, self.head, learning_rate, self.config.head_learning_rate)
