"""Linear and Conv1D layers alike: their weight as (out, in)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..errors import KasaCordaError


def weight_of(layer: nn.Module) -> Tensor:
    """The weight (out, in) of a Linear, or of transformers' Conv1D, which stores (in, out)."""
    if isinstance(layer, nn.Linear):
        if not layer.weight.is_floating_point():
            raise KasaCordaError(
                f"CorDA puts a residual in place of a weight, and a {type(layer).__name__} stores"
                f" {layer.weight.dtype}: load the base unquantised"
            )
        return layer.weight
    if type(layer).__name__ == "Conv1D":
        return layer.weight.T  # type: ignore[operator, return-value]
    raise KasaCordaError(f"CorDA adapts Linear and Conv1D layers, not {type(layer).__name__}")


@torch.no_grad()
def set_weight(layer: nn.Module, weight: Tensor) -> None:
    """Replace the weight by ``weight`` (out, in), in place."""
    stored: Any = layer.weight
    stored.copy_(weight if isinstance(layer, nn.Linear) else weight.T)
