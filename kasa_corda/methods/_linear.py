"""Wrappers around linear layers (nn.Linear, GPT-2's Conv1D, packed weights): the modules of our own linear methods."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers.pytorch_utils import Conv1D

from ..errors import ConfigError


class LinearWrapper(nn.Module):
    """A frozen linear layer ``base`` W x + b with something trained around it."""

    wraps = "base"

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base = base

    def merged_weight(self, W: Tensor) -> Tensor:
        """W (out, in), float32, with the trained change in it."""
        raise NotImplementedError

    @torch.no_grad()
    def merged(self) -> nn.Module:
        """The base layer, its weight changed in place. ConfigError if the weight is packed."""
        base: Any = self.base
        if not writable(base):
            raise ConfigError("packed weights can't take up the adapter without requantising; load the base unpacked")
        changed = self.merged_weight(dense_weight(base).float())
        base.weight.copy_(changed.T if isinstance(base, Conv1D) else changed)
        return base


class LowRank(LinearWrapper):
    """W x + b + scale * B core(A x): A (r, in), B (out, r), and whatever a subclass puts between them."""

    def __init__(self, base: nn.Module, rank: int, scale: float, dropout: float = 0.0) -> None:
        super().__init__(base)
        out_features, in_features = shape_of(base)
        device = weight_device(base)
        self.scale = scale
        self.dropout = nn.Dropout(dropout)
        self.A = nn.Parameter(torch.empty(rank, in_features, device=device))
        self.B = nn.Parameter(torch.zeros(out_features, rank, device=device))
        nn.init.kaiming_uniform_(self.A, a=math.sqrt(5))

    def core(self, hidden: Tensor) -> Tensor:
        """What happens to A x (..., r) before B."""
        return hidden

    def as_lora(self) -> tuple[Tensor, Tensor]:
        """A' (k, in) and B' (out, k) with core in one of them: the change of W is scale * B' A'."""
        return self.A, self.B

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.base(x)
        hidden = self.core(linear(self.dropout(x.to(self.A.dtype)), self.A))
        return result + (linear(hidden, self.B) * self.scale).to(result.dtype)

    def merged_weight(self, W: Tensor) -> Tensor:
        A, B = self.as_lora()
        return W + B @ A * self.scale


class Dense(LowRank):
    """LoRA-XS: core is R (r, r), and only R is trained; A and B start empty and are filled from an SVD."""

    INITIAL_STD = 1e-5

    def __init__(self, base: nn.Module, rank: int, scale: float, dropout: float = 0.0) -> None:
        super().__init__(base, rank, scale, dropout)
        self.A.requires_grad_(False)
        self.B.requires_grad_(False)
        self.R = nn.Parameter(torch.empty(rank, rank, device=self.A.device))
        nn.init.normal_(self.R, std=self.INITIAL_STD)

    def core(self, hidden: Tensor) -> Tensor:
        return linear(hidden, self.R)

    def as_lora(self) -> tuple[Tensor, Tensor]:
        return self.A, self.B @ self.R


class Diagonal(LowRank):
    """TriLoRA: core is diag(e), e (r,) zero; A and B both Kaiming-uniform."""

    def __init__(self, base: nn.Module, rank: int, dropout: float = 0.0) -> None:
        super().__init__(base, rank, 1.0, dropout)
        nn.init.kaiming_uniform_(self.B, a=math.sqrt(5))
        self.e = nn.Parameter(torch.zeros(rank, device=self.A.device))

    def core(self, hidden: Tensor) -> Tensor:
        return hidden * self.e

    def as_lora(self) -> tuple[Tensor, Tensor]:
        return self.A, self.B * self.e


class Nested(LowRank):
    """DyLoRA: only the first b components count, with scale alpha / b; b is one number in training, another in
    evaluation."""

    sampled: Tensor
    """(r,) alpha / b for the components in use while training, 0 for the others"""
    evaluated: Tensor
    """the same for evaluation mode, merging and the LoRA form"""
    live: Tensor
    """(r,) which components get gradients while training"""

    def __init__(self, base: nn.Module, rank: int, alpha: float, dropout: float = 0.0) -> None:
        super().__init__(base, rank, 1.0, dropout)
        self.alpha = alpha
        # masks instead of slices: torch.compile would compile anew for every rank
        for name in ("sampled", "evaluated"):
            self.register_buffer(name, torch.full((rank,), alpha / rank, device=self.A.device), persistent=False)
        self.register_buffer("live", torch.ones(rank, dtype=torch.bool, device=self.A.device), persistent=False)

    def sample(self, b: int, *, frozen: bool) -> None:
        """Train with the first ``b`` components; with ``frozen`` only the b-th of them is trained."""
        self.sampled.zero_()[:b] = self.alpha / b
        if frozen:
            self.live.zero_()[b - 1] = True

    def evaluate(self, b: int) -> None:
        """Evaluate with the first ``b`` components."""
        self.evaluated.zero_()[:b] = self.alpha / b

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.base(x)
        A: Tensor = self.A
        B: Tensor = self.B
        share = self.evaluated
        if self.training:
            A = torch.where(self.live[:, None], A, A.detach())
            B = torch.where(self.live, B, B.detach())
            share = self.sampled
        hidden = linear(self.dropout(x.to(A.dtype)), A) * share
        return result + linear(hidden, B).to(result.dtype)

    def as_lora(self) -> tuple[Tensor, Tensor]:
        b = int((self.evaluated > 0).sum())
        return self.A[:b], self.B[:, :b] * (self.alpha / b)


class Scaled(LinearWrapper):
    """SSB: diag(u) W diag(v) x + b with v (in,) and u (out,), both ones at the start; SSL: v only.

    u and v are float32 whatever the base is: in half precision their small steps away from 1 would round to nothing.
    """

    def __init__(self, base: nn.Module, *, outputs: bool) -> None:
        super().__init__(base)
        out_features, in_features = shape_of(base)
        device = weight_device(base)
        self.v = nn.Parameter(torch.ones(in_features, device=device))
        self.u = nn.Parameter(torch.ones(out_features, device=device)) if outputs else None

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.base((x * self.v).to(x.dtype))
        if self.u is None:
            return result
        scaled = result * self.u
        bias: Any = self.base.bias
        return (scaled if bias is None else scaled + bias * (1 - self.u)).to(result.dtype)  # the bias is not scaled

    def merged_weight(self, W: Tensor) -> Tensor:
        return W * self.v if self.u is None else self.u[:, None] * W * self.v


def shape_of(layer: Any) -> tuple[int, int]:
    """(out, in) of a linear layer; ConfigError for a layer of another kind."""
    if isinstance(layer, nn.Linear):
        return layer.out_features, layer.in_features
    if isinstance(layer, Conv1D):
        return layer.nf, layer.nx
    raise ConfigError(f"a {type(layer).__name__} is no linear layer; this method adapts nn.Linear and Conv1D")


def weight_device(layer: Any) -> torch.device:
    return layer.weight.device  # type: ignore[no-any-return]


def writable(layer: Any) -> bool:
    """Whether the weight is plain numbers, not packed by a quantisation library."""
    return type(layer.weight) is nn.Parameter and layer.weight.dtype.is_floating_point


def dense_weight(layer: Any) -> Tensor:
    """The weight (out, in) as the forward pass sees it, unpacked if it is packed."""
    from peft.utils.integrations import dequantize_module_weight

    stored = layer.weight
    weight: Tensor = dequantize_module_weight(layer).detach()
    layer.weight = stored  # peft 0.21 replaces an 8-bit weight on the CPU, and the next forward pass fails
    return weight.T if isinstance(layer, Conv1D) else weight
