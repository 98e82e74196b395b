"""CorDA's adapter of one layer: the r smallest (KPA) or largest (IPA) components of W C^exponent, mapped back to W.

With W C^e = U S V^T the kept component U_r S_r V_r^T C^-e equals U_r U_r^T W: a projection of W itself, so no inverse
of C is needed (CorDA, section 3.2, forms one).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import ConfigError, unknown
from ..spectral import Product, Subspace, bottom_subspace, top_subspace
from .conditioning import MAX_CONDITION, conditioned

MODES = ("kpa", "ipa")
BALANCES = ("singular_values", "mean_one", "equal")
SMALLEST = 1e-14
"""singular values below this share of the largest kept one count as this share when divided by"""


class Factors(NamedTuple):
    """W = residual + scale * B A."""

    A: Tensor
    """(r, in) float32"""
    B: Tensor
    """(out, r) float32"""
    residual: Tensor
    """(out, in) in the dtype of W"""


@dataclass
class Decomposition:
    """The adapter of one layer and how it was found."""

    A: Tensor
    B: Tensor
    values: Tensor
    """(r,) kept singular values of W C^exponent, float64, descending"""
    subspace: Subspace


def corda_factors(
    W: Tensor,
    C: Tensor,
    r: int,
    mode: str,
    *,
    exponent: float = 1.0,
    balance: str = "singular_values",
    damping: str = "when_singular",
    scale: float = 1.0,
) -> Factors:
    """A (r, in), B (out, r) and residual with W = residual + scale * B A, for W (out, in) and covariance C (in, in).

    ``mode``: kpa keeps the r smallest components of W C^exponent in the adapter, ipa the r largest. ``exponent``: 1 is
    CorDA, 0 is PiSSA (C is not used), 1/2 minimises the activation error. ``balance``: singular_values gives A and B
    sqrt(S) each, with whatever scale C has (paper, authors, PEFT); mean_one does the same with C scaled to a mean
    diagonal of 1; equal gives A and B the same Frobenius norm. ``damping`` as in ``conditioned``.
    """
    matrix = conditioned(C, damping=damping, max_condition=MAX_CONDITION).matrix if exponent else None
    found = decompose(W, matrix, r, mode, exponent=exponent, balance=balance, scale=scale)
    return Factors(found.A, found.B, residual_weight(W, found.A, found.B, scale))


def decompose(
    W: Tensor,
    C: Tensor | None,
    r: int,
    mode: str,
    *,
    exponent: float = 1.0,
    balance: str = "singular_values",
    scale: float = 1.0,
    name: str = "matrix",
) -> Decomposition:
    """``corda_factors`` without residual, for a C (in, in) that is float64 and invertible (``conditioned``).

    ``name`` is the layer in messages.
    """
    for key, value, valid in (("mode", mode, MODES), ("balance", balance, BALANCES)):
        if value not in valid:
            raise ConfigError(unknown(key, value, valid))
    W = W.detach()
    # the triangular root has the left vectors and the values of the symmetric one and costs far less
    M = W if C is None or not exponent else Product(W, C, exponent, root="cholesky")
    find = bottom_subspace if mode == "kpa" else top_subspace
    found = find(M, r, dtype=torch.float64, name=name)
    U = found.basis if found.side == "left" else _left_vectors(M, found)
    projected = U.T @ W.double()  # (r, in)
    root = _roots(found.values, projected, C, exponent, balance, scale)
    A, B = projected / (scale * root[:, None]), U * root
    return Decomposition(A.float(), B.float(), found.values, found)


def residual_weight(W: Tensor, A: Tensor, B: Tensor, scale: float) -> Tensor:
    """W - scale * B A for the adapter as it is stored (float32), computed in float64 and rounded once."""
    return (W.detach().double() - scale * (B.double() @ A.double())).to(W.dtype)


def _left_vectors(M: Tensor | Product, found: Subspace) -> Tensor:
    """The left singular vectors (out, r) in float64 that belong to right ones.

    Zero columns where the singular value is zero: such a component has no left vector within the range of W.
    """
    V = found.basis.double()
    images = M.double() @ V if isinstance(M, Tensor) else M.W.double() @ _power_times(M, V)
    norms = images.norm(dim=0)
    alive = norms > SMALLEST * norms.max()
    Q, R = torch.linalg.qr(images / norms.clamp_min(torch.finfo(norms.dtype).tiny))
    return Q * (R.diagonal().sign() * alive)


def _power_times(M: Product, X: Tensor) -> Tensor:
    """C^exponent X, with the root of C that the product means."""
    if M.exponent == 1:
        return M.C @ X
    if M.exponent == 0.5:
        return torch.linalg.cholesky(M.C) @ X
    values, directions = torch.linalg.eigh(M.C)
    return directions @ (values.clamp_min(0)[:, None] ** M.exponent * (directions.T @ X))


def _roots(values: Tensor, projected: Tensor, C: Tensor | None, exponent: float, balance: str, scale: float) -> Tensor:
    """(r,) length of each column of B."""
    if balance == "equal":
        size = (projected.norm() / (scale * len(values) ** 0.5)).sqrt()
        return (size if size > 0 else torch.ones_like(size)).expand(len(values))
    floor = SMALLEST * values.max() if values.max() > 0 else torch.ones_like(values[0])
    kept = torch.maximum(values, floor)
    if balance == "mean_one" and C is not None:
        kept = kept / C.diagonal().mean() ** exponent
    return (kept / scale).sqrt()
