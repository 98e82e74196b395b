"""CorDA (arXiv 2406.05223): adapters from weights oriented by the covariance of their inputs.

Names are imported when first used, so that the command line can read the presets without torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazily

if TYPE_CHECKING:
    from .conditioning import Conditioned, conditioned
    from .factors import Factors, corda_factors, decompose
    from .preparation import Prepared, prepare

__all__ = ["Conditioned", "Factors", "Prepared", "conditioned", "corda_factors", "decompose", "prepare"]

_HOME = {
    "Factors": "factors",
    "corda_factors": "factors",
    "decompose": "factors",
    "Conditioned": "conditioning",
    "conditioned": "conditioning",
    "Prepared": "preparation",
    "prepare": "preparation",
}

__getattr__ = lazily(__name__, _HOME)
