"""A linear layer of packed weights where no quantisation library is installed."""

from __future__ import annotations

import torch
from torch import nn


class Packed(nn.Linear):
    """8-bit weights with one scale, offering what PEFT's dequantisation asks for; a subclass as bitsandbytes' are."""

    def __init__(self, dense: nn.Linear) -> None:
        super().__init__(dense.in_features, dense.out_features)
        self.scale = dense.weight.data.abs().max() / 127
        self.W_q = (dense.weight.data / self.scale).round().to(torch.int8)
        self.weight = nn.Parameter(self.W_q, requires_grad=False)
        self.bias = dense.bias

    def dequantize(self) -> torch.Tensor:
        return self.W_q.float() * self.scale

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(x, self.dequantize(), self.bias)
