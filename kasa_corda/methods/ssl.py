"""SSL and SSB (arXiv 2407.05417): a vector on the input side of W, or on both sides. W itself stays frozen.

SSL: W diag(v) x + b. SSB: diag(u) W diag(v) x + b. u and v start as ones; there is no rank and no scale.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import METHODS
from ._linear_method import LinearMethod
from .base import Facts

if TYPE_CHECKING:
    from torch import nn

    from ._linear import LinearWrapper

RATES = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)


@METHODS.register("ssl")
class Ssl(LinearMethod):
    """The name is of the left subspace; the authors' code multiplies the columns of W, its inputs."""

    facts = Facts(
        "scaling",
        "arXiv 2407.05417; Chongjie-Si/Subspace-Tuning layers_SSL.py",
        "v (in) of every target layer",
        four_bit=True,
    )
    LEARNING_RATES = RATES

    def wrap(self, name: str, layer: nn.Module) -> LinearWrapper:
        from ._linear import Scaled

        return Scaled(layer, outputs=False)


@METHODS.register("ssb")
class Ssb(LinearMethod):
    facts = Facts(
        "scaling",
        "arXiv 2407.05417; Chongjie-Si/Subspace-Tuning layers_SSB.py",
        "v (in) and u (out) of every target layer",
        four_bit=True,
    )
    LEARNING_RATES = RATES

    def wrap(self, name: str, layer: nn.Module) -> LinearWrapper:
        from ._linear import Scaled

        return Scaled(layer, outputs=True)
