"""LoftQ (arXiv 2310.08659): a quantised weight and the low-rank part that comes nearest to what quantising loses."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..spectral import top_subspace
from .factors import Adapter, balanced

BLOCK = 64
"""numbers that share one scale in 4 bits"""


class Packed(NamedTuple):
    """A quantised matrix (out, in)."""

    codes: Tensor
    """two 4-bit codes per uint8, or one int8 per number"""
    scales: Tensor
    """float32: the largest entry of every block of 64, or of every row"""


def quantised(W: Tensor, bits: int) -> Packed:
    """W (out, in) in bitsandbytes' nf4 (bits 4) or row-wise int8 (bits 8)."""
    import bitsandbytes.functional as bnb

    if bits == 4:
        codes, state = bnb.quantize_4bit(W.float().contiguous(), blocksize=BLOCK, quant_type="nf4")
        return Packed(codes, state.absmax)
    codes, scales, _ = bnb.int8_vectorwise_quant(W.half().contiguous())
    return Packed(codes, scales)


def restored(packed: Packed, shape: tuple[int, int], bits: int) -> Tensor:
    """The matrix (out, in) that a ``Packed`` stands for, float32."""
    import bitsandbytes.functional as bnb

    if bits == 4:
        state = bnb.QuantState(
            absmax=packed.scales,
            # in one row: bitsandbytes 0.50 on the CPU gets rows wrong that end within a block
            shape=torch.Size([shape[0] * shape[1]]),
            code=bnb.get_4bit_type("nf4", device=packed.codes.device),
            blocksize=BLOCK,
            quant_type="nf4",
            dtype=torch.float32,
        )
        return bnb.dequantize_4bit(packed.codes, state).view(shape)
    return bnb.int8_vectorwise_dequant(packed.codes, packed.scales).float()


def loftq(W: Tensor, r: int, bits: int, steps: int, scale: float, name: str = "matrix") -> tuple[Packed, Adapter]:
    """Q and A (r, in), B (out, r) with W (out, in) near Q + scale * B A.

    ``steps`` times: Q quantises what the last B A leaves of W, B A are the r largest components of W - Q. PEFT's
    version leaves the scale out of account, so that it fits only with alpha = r.
    """
    wide = W.float()
    target = wide
    for step in range(steps):
        packed = quantised(target, bits)
        rest = wide - restored(packed, (W.shape[0], W.shape[1]), bits)
        A, B = balanced(rest, top_subspace(rest, r, name=name), scale)
        if step + 1 < steps:
            target = wide - scale * (B @ A)
    return packed, (A, B)
