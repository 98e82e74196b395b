"""Calibration: which texts a model is shown, and the covariances of the inputs its layers then see.

Names are imported when first used, so that the command line can read the schema without torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazily

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
    "Block": "streaming",
    "BlockCovariances": "streaming",
    "stream": "streaming",
    "stream_blocks": "streaming",
    "NotStreamableError": "blocks",
    "collect_covariances": "collect",
    "Covariance": "covariance",
    "Moments": "covariance",
    "Calibration": "samples",
}

__getattr__ = lazily(__name__, _HOME)
