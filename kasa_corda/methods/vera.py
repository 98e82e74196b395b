"""VeRA (arXiv 2310.11454): W x + diag(lambda_b) B diag(lambda_d) A x; A and B random, frozen, shared by all layers."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config.schema import option
from . import METHODS
from ._peft import OwnHeadRate, PeftMethod, head_apart, tuner_arguments
from .base import AdaptContext, Facts

if TYPE_CHECKING:
    from peft import PeftConfig
    from torch import nn


@contextmanager
def told_already() -> Iterator[None]:
    """Without PEFT's warnings about save_projection=false, which the option explains."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Specified to not (save|load) vera_A and vera_B")
        yield


@dataclass
class VeraConfig(OwnHeadRate):
    rank: int = option(256, "rank r of the shared A (r, in) and B (out, r); costs r parameters a layer", at_least=1)
    dropout: float = option(0.0, "dropout on the adapter's input", at_least=0, below=1)
    d_initial: float = option(0.1, "start of lambda_d; lambda_b starts at 0", above=0)
    save_projection: bool = option(
        True,
        "store A and B with the adapter (megabytes, not trained); false stores the seed alone and relies on PyTorch"
        " drawing the same numbers wherever it is loaded",
    )


@METHODS.register("vera")
class Vera(PeftMethod):
    facts = Facts("low rank", "arXiv 2310.11454", "lambda_b and lambda_d of every target layer")
    Config = VeraConfig
    LEARNING_RATES = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)

    def peft_config(self, context: AdaptContext) -> PeftConfig:
        from peft import VeraConfig as Peft

        self.head = context.head
        with told_already():
            return Peft(
                **tuner_arguments(context),
                r=self.config.rank,
                vera_dropout=self.config.dropout,
                d_initial=self.config.d_initial,
                save_projection=self.config.save_projection,
                projection_prng_key=context.seed,
            )

    def load(self, model: nn.Module, directory: Path) -> nn.Module:
        with told_already():
            return super().load(model, directory)

    def parameter_groups(self, model: nn.Module, learning_rate: float) -> list[dict[str, Any]] | None:
        return head_apart(model, self.head, learning_rate, self.config.head_learning_rate)
