"""Calibration: which texts a model is shown, and the covariances of the inputs its layers then see.

Names are imported when first used, so that the command line can read the schema without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .blocks import NotStreamableError
    from .collect import collect_covariances
    from .covariance import Covariance, Moments
    from .samples import Calibration
    from .streaming import Block, BlockCovariances, stream, stream_blocks

__all__ = [
    "Block",
    "BlockCovariances",
    "Calibration",
    "Covariance",
    "Moments",
    "NotStreamableError",
    "collect_covariances",
    "stream",
    "stream_blocks",
]

_HOME = {
    "NotStreamableError": "blocks",
    "collect_covariances": "collect",
    "Covariance": "covariance",
    "Moments": "covariance",
    "Calibration": "samples",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOME.get(name, 'streaming')}", __name__), name)
