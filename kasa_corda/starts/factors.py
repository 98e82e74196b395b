"""A (r, in) and B (out, r) out of one weight or gradient (out, in). Float64 inside, float32 outside."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..spectral import Subspace, top_subspace

Adapter = tuple[Tensor, Tensor]
"""A (r, in) and B (out, r)"""
SMALLEST = 1e-14
"""singular values below this share of the largest kept one count as this share when divided by"""


class Triplets(NamedTuple):
    """The k largest singular components U diag(S) V^T, float64."""

    U: Tensor
    """(out, k) orthonormal"""
    S: Tensor
    """(k,) descending"""
    V: Tensor
    """(in, k) orthonormal"""


def balanced(W: Tensor, found: Subspace, scale: float) -> Adapter:
    """The components of W (out, in) in a subspace, shared evenly: B = U sqrt(S / scale), A = sqrt(S / scale) V^T.

    scale * B A is the projection of W on the subspace, whatever its rounding.
    """
    wide, basis = W.double(), found.basis.double()
    values = found.values.to(wide)
    floor = SMALLEST * values.max() if values.max() > 0 else torch.ones_like(values[0])
    root = (torch.maximum(values, floor) / scale).sqrt()
    if found.side == "left":
        A, B = (basis.T @ wide) / (scale * root[:, None]), basis * root
    else:
        A, B = (basis * root).T, (wide @ basis) / (scale * root)
    return A.float(), B.float()


def randomised(W: Tensor, r: int, iterations: int, scale: float, seed: int) -> Adapter:
    """``balanced`` for the r largest components by PyTorch's randomised SVD, as PEFT's pissa_niter_N."""
    with torch.random.fork_rng(devices=[W.device] if W.is_cuda else []):
        torch.manual_seed(seed)
        U, S, V = torch.svd_lowrank(W.float(), r, niter=iterations)
    root = (S / scale).sqrt()
    return root[:, None] * V.T, U * root


def leading_qr(W: Tensor, r: int) -> Adapter:
    """A = R_r and B = Q_r, the first r rows and columns of W = Q R.

    The first r columns of Q depend on the first r of W alone, and R_r = Q_r^T W: no QR of all of W is needed.
    """
    wide = W.double()
    Q = torch.linalg.qr(wide[:, :r])[0]
    return (Q.T @ wide).float(), Q.float()


def triplets(M: Tensor, k: int, name: str = "matrix") -> Triplets:
    """The k largest singular triplets of M (out, in), with orthonormal vectors also where values are zero."""
    wide = M.double()
    if k < min(M.shape):
        found = top_subspace(M, k, dtype=torch.float64, name=name)
        if found.side == "left":
            U, S, V = _small(found.basis.T @ wide)
            return Triplets(found.basis @ U, S, V)
        U, S, V = _small(wide @ found.basis)
        return Triplets(U, S, found.basis @ V)
    U, S, Vt = torch.linalg.svd(wide, full_matrices=False)
    return Triplets(U[:, :k], S[:k], Vt[:k].T)


def _small(M: Tensor) -> Triplets:
    """All triplets of a matrix that is long in one direction only."""
    if M.shape[0] < M.shape[1]:
        V, S, U = _small(M.T)
        return Triplets(U, S, V)
    Q, R = torch.linalg.qr(M)
    U, S, Vt = torch.linalg.svd(R)
    return Triplets(Q @ U, S, Vt.T)


def from_gradient(G: Tensor, r: int, gamma: float, *, values: bool, name: str = "matrix") -> Adapter:
    """LoRA-GA's A and B from a gradient G = U S V^T (out, in): A from V_(1..r), B from U_(r+1..2r).

    Authors' form (``values`` False, scale "stable"): both times out^(1/4) / sqrt(gamma). PEFT's (True): B also times
    S_(r+1..2r), A unscaled.
    """
    U, S, V = triplets(G, 2 * r, name)
    size = G.shape[0] ** 0.25 / gamma**0.5
    A, B = V[:, :r].T, U[:, r:] * size
    A, B = (A, B * S[r:]) if values else (A * size, B)
    return A.float().contiguous(), B.float()
