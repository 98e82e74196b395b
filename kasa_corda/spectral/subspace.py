"""What a subspace is, and the two calls that compute one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Product:
    """The matrix W C^exponent (out, in), given as factors: W (out, in) and a covariance C (in, in)."""

    W: Tensor
    C: Tensor
    exponent: float = 1.0


@dataclass(frozen=True)
class Subspace:
    """r singular directions of a matrix M (out, in) on its smaller side."""

    basis: Tensor
    """(n, r) orthonormal columns, n = out if side is left else in; ordered as ``values``"""
    values: Tensor
    """(r,) singular values of M in float64, descending"""
    side: str
    """left (columns are left singular vectors) or right"""
    residual: float
    """largest ||G u - value^2 u|| / ||G|| over the columns u, G the float64 Gram matrix of that side"""
    route: str
    """how it was computed"""
    fallback: str | None = None
    """why a faster route was left, if one was"""


def bottom_subspace(M: Tensor | Product, r: int, *, dtype: torch.dtype = torch.float32) -> Subspace:
    """The r smallest of the min(out, in) singular directions of M; ``dtype`` is that of the basis."""
    return _reference(M, r, dtype, largest=False)


def top_subspace(M: Tensor | Product, r: int, *, dtype: torch.dtype = torch.float32) -> Subspace:
    """The r largest singular directions of M."""
    return _reference(M, r, dtype, largest=True)


def _reference(M: Tensor | Product, r: int, dtype: torch.dtype, *, largest: bool) -> Subspace:
    """Full float64 SVD."""
    if isinstance(M, Product):
        power, directions = torch.linalg.eigh(M.C.double())
        matrix = M.W.double() @ (directions * power.clamp_min(0) ** M.exponent) @ directions.T
    else:
        matrix = M.double()
    U, S, Vh = torch.linalg.svd(matrix, full_matrices=False)
    side, vectors = ("left", U) if matrix.shape[0] <= matrix.shape[1] else ("right", Vh.T)
    chosen = slice(0, r) if largest else slice(len(S) - r, len(S))
    return Subspace(vectors[:, chosen].to(dtype), S[chosen], side, 0.0, "svd64")
