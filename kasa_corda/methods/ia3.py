"""IA3 (arXiv 2205.05638): l * (W x) for keys and values, W (l * x) for the feed-forward's down projection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..config.schema import MethodConfig, option
from ..models.families import ARCHITECTURES
from . import METHODS
from ._peft import PeftMethod, tuner_arguments
from .base import AdaptContext, Facts

if TYPE_CHECKING:
    from peft import PeftConfig


@dataclass
class IA3Config(MethodConfig):
    target_modules: Any = option(
        "kv_down", "layers to scale: kv_down (the paper's: key, value, feed-forward down), another preset, or names"
    )


@METHODS.register("ia3")
class IA3(PeftMethod):
    """GPT-2's queries are scaled as well: its key, value and query are one layer."""

    facts = Facts("scaling", "arXiv 2205.05638", "one vector l per target layer")
    Config = IA3Config
    LEARNING_RATES = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)

    def peft_config(self, context: AdaptContext) -> PeftConfig:
        from peft import IA3Config as Peft

        down = [name for name in context.targets if is_down_projection(name)]
        return Peft(**tuner_arguments(context), feedforward_modules=down)


def is_down_projection(name: str) -> bool:
    """Whether a layer of that full name leads out of a feed-forward, whose input is then scaled.

    The longest name that fits decides: ``attention.output.dense`` ends with ``output.dense`` and is none.
    """
    families = ARCHITECTURES.values()
    fitting = [linear for family in families for linear, *_ in family.linears if f".{name}".endswith(f".{linear}")]
    return max(fitting, key=len, default="") in {family.five[-1] for family in families}
