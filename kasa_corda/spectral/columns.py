"""Blocks of columns that iterations work on: where they start, and how they are kept orthonormal."""

from __future__ import annotations

import torch
from torch import Tensor


def orthonormal(X: Tensor) -> Tensor:
    """An orthonormal basis of the columns of X: Cholesky-QR twice, Householder QR if they are too dependent."""
    Q = X
    for _ in range(2):
        L, info = torch.linalg.cholesky_ex(Q.T @ Q)
        if int(info):
            return torch.linalg.qr(X)[0]
        Q = torch.linalg.solve_triangular(L, Q.T, upper=False).T
    return Q


def start_block(n: int, columns: int, device: torch.device) -> Tensor:
    """(n, columns) of seeded Gaussian noise in float64."""
    generator = torch.Generator(device=device).manual_seed(0)
    return torch.randn(n, columns, dtype=torch.float64, device=device, generator=generator)
