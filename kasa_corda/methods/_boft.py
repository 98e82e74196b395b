"""PEFT's BOFT on any device, with the butterfly factors that were asked for.

PEFT puts the blocks together by a CUDA extension that it compiles at first use; where that fails it goes on with one
factor, which is OFT. The same operation is two lines of PyTorch.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft.tuners.boft import layer as boft
from torch import Tensor


class BlockDiagonal:
    """In the place of the compiled module: (N, blocks, b, b) -> (N, blocks b, blocks b), and the gradient back."""

    @staticmethod
    def forward(blocks: Tensor) -> tuple[Tensor]:
        count, number, size, _ = blocks.shape
        whole = blocks.new_zeros(count, number, size, number, size)
        whole.diagonal(dim1=1, dim2=3).copy_(blocks.permute(0, 2, 3, 1))
        return (whole.view(count, number * size, number * size),)

    @staticmethod
    def backward(gradient: Tensor, blocks: Tensor) -> tuple[Tensor]:
        count, number, size, _ = blocks.shape
        parts = gradient.reshape(count, number, size, number, size).diagonal(dim1=1, dim2=3)
        return (parts.permute(0, 3, 1, 2).contiguous(),)


def any_device() -> None:
    """Keep PEFT from compiling its extension, for this process."""
    module: Any = boft
    module._FBD_CUDA = BlockDiagonal


@contextmanager
def without_permutations() -> Iterator[None]:
    """For counting parameters: an in x in permutation per layer would fill the memory."""
    layer: Any = boft.BOFTLayer
    drawn, matrix = layer.block_butterfly_perm, layer.perm2mat
    layer.block_butterfly_perm = lambda self, n, *sizes: range(n)
    layer.perm2mat = lambda self, indices: torch.empty(len(indices), len(indices))
    try:
        with torch.device("meta"):
            yield
    finally:
        layer.block_butterfly_perm, layer.perm2mat = drawn, matrix
