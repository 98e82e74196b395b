"""What a subspace is: the data that travels between the routes, the cache and the methods."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .accuracy import Evidence


@dataclass(frozen=True)
class Product:
    """The matrix W C^exponent (out, in), given as factors: W (out, in) and a covariance C (in, in).

    C is symmetric positive semidefinite. With exponent 1/2, ``root`` says which square root is meant: the
    symmetric one, or the lower triangular L of C = L L^T (``cholesky``). Both give the same singular values and
    left singular vectors; the right ones differ: V_symmetric^T C^(-1/2) = V_cholesky^T L^(-1). The triangular one
    is much cheaper when out > in; it needs a C that is positive definite.
    """

    W: Tensor
    C: Tensor
    exponent: float = 1.0
    root: str = "symmetric"


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
    error: float | None = None
    """estimate of the sine of the largest angle to the exact subspace: residual and rounding over the gap at the cut"""
    resolved: bool = True
    """False if the singular values on both sides of the cut are equal to float64 rounding: any basis of that cluster
    is then as right as another, ``error`` means nothing and ``residual`` is the test"""
    evidence: Evidence | None = None
    """what ``error`` was computed from"""

    def with_basis_in(self, dtype: torch.dtype) -> Subspace:
        """The same with the basis in another type, whose rounding replaces that of the old one in ``error``."""
        if self.basis.dtype is dtype:
            return self
        error = None if self.error is None else self.error + torch.finfo(dtype).eps - torch.finfo(self.basis.dtype).eps
        return replace(self, basis=self.basis.to(dtype), error=error)

    def narrowed(self, r: int, *, largest: bool) -> Subspace:
        """The outermost r of these directions, with the error estimate of the inner cut."""
        if r == len(self.values):
            return self
        kept = slice(0, r) if largest else slice(len(self.values) - r, None)
        narrow = replace(self, basis=self.basis[:, kept].contiguous(), values=self.values[kept].contiguous())
        if self.evidence is None:
            return narrow
        evidence = self.evidence.narrowed(self.values, r, largest=largest)
        error = evidence.error(narrow.values, largest=largest) + torch.finfo(self.basis.dtype).eps
        return replace(
            narrow,
            evidence=evidence,
            error=min(1.0, error),
            resolved=evidence.can_resolve(narrow.values, largest=largest),
        )
