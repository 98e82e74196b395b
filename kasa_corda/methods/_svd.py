"""The truncated SVD of a model's layers as two factors, from the spectral kernels and their cache on disk."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..grouping import grouped
from ..kasa.layers import computable
from ..kasa.truncation import truncation_bases
from ..spectral import SpectralCache, Subspace
from ._linear import dense_weight, shape_of

AT_ONCE = 2**30
"""numbers of weights that are decomposed together"""


@torch.no_grad()
def largest_factors(model: nn.Module, names: Sequence[str], rank: int) -> dict[str, tuple[Tensor, Tensor]]:
    """A = S_r V_r^T (r, in) and B = U_r (out, r) of each named layer's weight U S V^T, float32, on the CPU.

    The largest entry of each singular vector on the smaller side is positive, whatever computed it. Errors as
    ``top_subspace``.
    """
    cache = SpectralCache()
    found: dict[str, tuple[Tensor, Tensor]] = {}
    for group in _groups(model, names):
        weights = {name: computable(dense_weight(model.get_submodule(name)).float()) for name in group}
        bases = truncation_bases(weights, dict.fromkeys(group, rank), largest=True, cache=cache)
        found |= {name: factors(weights[name], bases[name]) for name in group}
    return found


def factors(W: Tensor, subspace: Subspace) -> tuple[Tensor, Tensor]:
    """S V^T (r, in) and U (out, r) of W (out, in), from its singular directions on one side."""
    wide, basis = W.double(), subspace.basis.double()
    basis = basis * basis.gather(0, basis.abs().argmax(0, keepdim=True)).sign()
    if subspace.side == "left":
        A, B = basis.T @ wide, basis
    else:
        # W V has the columns U S: orthogonal, and their QR stays orthonormal where a value is zero
        Q, triangle = torch.linalg.qr(wide @ basis)
        signs = torch.where(triangle.diagonal() < 0, -1.0, 1.0)
        A, B = subspace.values.to(wide)[:, None] * basis.T, Q * signs
    return A.float().cpu(), B.float().cpu()


def _groups(model: nn.Module, names: Sequence[str]) -> Iterator[list[str]]:
    def sized(name: str) -> tuple[str, int]:
        layer: Any = model.get_submodule(name)
        return name, math.prod(shape_of(layer))

    return grouped(map(sized, names), AT_ONCE)
