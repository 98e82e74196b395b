"""CorDA (arXiv 2406.05223): adapters from weights oriented by the covariance of their inputs.

Names are imported when first used, so that the command line can read the presets without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .conditioning import Conditioned, conditioned
    from .factors import Factors, corda_factors, decompose
    from .preparation import Prepared, prepare

__all__ = ["Conditioned", "Factors", "Prepared", "conditioned", "corda_factors", "decompose", "prepare"]

_HOME = {
    "Conditioned": "conditioning",
    "conditioned": "conditioning",
    "Prepared": "preparation",
    "prepare": "preparation",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOME.get(name, 'factors')}", __name__), name)
