"""Route ``triangular``: the smallest directions by inverse iteration with R, M^T = Q R.

The Gram matrix M M^T = R^T R is never formed, so the condition number is not squared and singular values down to the
rounding of M itself are told apart. Sweeps with triangular solves converge slowly where the spectrum is dense, so the
block is filtered between them as in ``filtering``, with (R^T R + mu I)^-1 as S^-1 S^-T, S the triangular factor of R
stacked on sqrt(mu) I: that is not squared either, and its explicit inverse makes every product a matrix product.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from .accuracy import EPS, Evidence
from .columns import orthonormal, start_block
from .filtering import Apply, block_degree, chebyshev, ritz_pairs
from .operand import Operand
from .solution import Solution, Unsolved

SWEEPS = 30
ROUGH = 3
"""sweeps before the first estimate of the shift"""


class Sweep(NamedTuple):
    """Right singular vectors and values of R, ascending, after one inverse iteration."""

    right: Tensor
    values: Tensor
    residuals: Tensor


def triangular(M: Operand, r: int, *, tolerance: float) -> Solution:
    """The r smallest directions, accurate where the Gram matrix is not. Unsolved if they don't converge."""
    R = torch.linalg.qr(M.matrix.T, mode="r")[1]
    norm = _norm(R)
    diagonal = R.diagonal()
    # A zero on the diagonal becomes one rounding error of R, which moves no singular value by more than that.
    smallest = EPS * float(diagonal.abs().max())
    diagonal.copy_(torch.where(diagonal.abs() < smallest, smallest, diagonal))
    right = start_block(M.n, min(M.n, r + max(8, r // 2)), M.device)
    for _ in range(ROUGH):
        right = orthonormal(_inverse(R, orthonormal(_inverse_transposed(R, right))))
    wanted = torch.arange(r - 1, -1, -1, device=M.device)
    before, shift = math.inf, 0.0
    A: Apply | None = None
    for _ in range(SWEEPS):
        right, values, residuals = _sweep(R, right)
        evidence = Evidence.unsquared(residuals[wanted], float(values[r]), float(residuals[r]), norm)
        solution = Solution(right[:, wanted], values[wanted], evidence)
        error = solution.error(largest=False)
        if error <= tolerance or (evidence.at_rounding() and not error < before / 4):
            return solution
        before = error
        cut = float(values[r - 1]) ** 2
        if A is None or cut < shift / 16:
            shift = cut / 2
            A = _shifted_inverse(R, shift)
        ritz, right = ritz_pairs(A, right)
        degree, times = block_degree(ritz, r, error, tolerance)
        for _ in range(times):
            right = orthonormal(chebyshev(A, right, ritz, degree))
    raise Unsolved(f"not converged after {SWEEPS} sweeps (estimated error {before:.1e})")


def _sweep(R: Tensor, right: Tensor) -> Sweep:
    left = orthonormal(_inverse_transposed(R, right))
    Y = _inverse(R, left)
    Q = orthonormal(Y)
    rotation, inverse_values, left_rotation = torch.linalg.svd(Q.T @ Y)
    right, left, values = Q @ rotation, left @ left_rotation.T, 1 / inverse_values
    residuals = torch.hypot((R.T @ left - right * values).norm(dim=0), (R @ right - left * values).norm(dim=0))
    return Sweep(right, values, residuals)


def _inverse(R: Tensor, X: Tensor) -> Tensor:
    return torch.linalg.solve_triangular(R, X, upper=True)


def _inverse_transposed(R: Tensor, X: Tensor) -> Tensor:
    return torch.linalg.solve_triangular(R.T, X, upper=False)


def _shifted_inverse(R: Tensor, shift: float) -> Apply:
    """X -> (R^T R + shift I)^-1 X."""
    identity = torch.eye(len(R), dtype=R.dtype, device=R.device)
    S = torch.linalg.qr(torch.cat([R, math.sqrt(shift) * identity]), mode="r")[1]
    inverse = _inverse(S, identity)
    return lambda X: inverse @ (inverse.T @ X)


def _norm(R: Tensor) -> float:
    """Largest singular value of R by power iteration, good to a few per cent."""
    x = torch.ones(R.shape[0], 1, dtype=R.dtype, device=R.device)
    for _ in range(12):
        x = R.T @ (R @ (x / x.norm().clamp_min(1e-300)))
    return math.sqrt(float(x.norm()))
