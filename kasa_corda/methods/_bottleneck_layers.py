"""The modules of the bottleneck adapters: the bottleneck itself, and the ways in which it meets a frozen module."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": functional.relu,
    "swish": functional.silu,
    "gelu": functional.gelu,
    "tanh": torch.tanh,
}


class Bottleneck(nn.Module):
    """scale * Up act(Down norm(x)): Down (b, in), Up (out, b). ``norm``: whether x passes a LayerNorm of its own."""

    def __init__(
        self,
        widths: tuple[int, int],
        bottleneck: int,
        *,
        activation: str,
        init: str,
        dropout: float = 0.0,
        bias: bool = True,
        norm: bool = False,
        scale: float = 1.0,
        **placement: Any,
    ) -> None:
        super().__init__()
        into, out = widths
        self.norm = nn.LayerNorm(into, **placement) if norm else nn.Identity()
        self.down = nn.Linear(into, bottleneck, bias=bias, **placement)
        self.up = nn.Linear(bottleneck, out, bias=bias, **placement)
        self.dropout = nn.Dropout(dropout)
        self.activation, self.scale = activation, scale
        if init != "linear":
            self._initialise(init)

    @torch.no_grad()
    def _initialise(self, init: str) -> None:
        for layer in (self.down, self.up):
            if init == "houlsby":
                nn.init.trunc_normal_(layer.weight, std=1e-2, a=-2e-2, b=2e-2)
            elif init == "bert":
                nn.init.normal_(layer.weight, std=0.02)
            elif layer is self.down:
                nn.init.kaiming_uniform_(layer.weight, a=math.sqrt(5))
            else:
                nn.init.zeros_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """What is added to the frozen module's result, in the dtype of x."""
        hidden = ACTIVATIONS[self.activation](self.down(self.norm(x.to(self.down.weight.dtype))))
        return (self.dropout(self.up(hidden)) * self.scale).to(x.dtype)


class DroppableBottleneck(Bottleneck):
    """AdapterDrop: adds nothing while dropped. Which mode it is dropped in is set from outside."""

    def __init__(self, widths: tuple[int, int], bottleneck: int, *, layer: int, **settings: Any) -> None:
        super().__init__(widths, bottleneck, **settings)
        self.layer = layer
        """index of the block it is in"""
        self.dropped = {True: False, False: False}
        """training mode -> whether this adapter is dropped"""

    def forward(self, x: Tensor) -> Tensor:
        if not self.dropped[self.training]:
            return super().forward(x)
        # in the graph with a gradient of zero: a reducer over several processes waits for every parameter
        return torch.stack([p.sum() for p in self.parameters()]).sum().to(x.dtype) * 0.0


class Wrapper(nn.Module):
    """A frozen module with an adapter at it."""

    wraps = "base"

    def __init__(self, base: nn.Module, adapter: nn.Module) -> None:
        super().__init__()
        self.base, self.adapter = base, adapter


class After(Wrapper):
    """y + adapter(y), where y is what the frozen module gives (or the first of what it gives)."""

    def forward(self, *inputs: Any, **named: Any) -> Any:
        given = self.base(*inputs, **named)
        if isinstance(given, tuple):
            return (given[0] + self.adapter(given[0]), *given[1:])
        return given + self.adapter(given)


class Beside(Wrapper):
    """base(x) + adapter(x)"""

    def forward(self, x: Tensor) -> Any:
        return self.base(x) + self.adapter(x)


class Before(Wrapper):
    """base(x + adapter(x))"""

    def forward(self, x: Tensor) -> Any:
        return self.base(x + self.adapter(x))


class OnResidual(Wrapper):
    """base(hidden, x + adapter(x)), for a module that adds x to what it makes of hidden."""

    def forward(self, hidden: Tensor, x: Tensor) -> Any:
        return self.base(hidden, x + self.adapter(x))


class AroundNorm(Wrapper):
    """norm(x + adapter(norm(x))): the same LayerNorm before and after the adapter."""

    def forward(self, x: Tensor) -> Any:
        return self.base(x + self.adapter(self.base(x)))
