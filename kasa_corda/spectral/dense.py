"""The routes that decompose a whole matrix, and the inverse iteration that doesn't square the condition number."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .accuracy import EPS, Evidence
from .operand import Operand
from .solution import Solution, Unsolved, from_block

SWEEPS = 40


def gram_eigh(M: Operand, r: int, *, largest: bool) -> Solution:
    """All eigenvectors of the float64 Gram matrix."""
    values, vectors = torch.linalg.eigh(M.gram)
    return from_eigen(M, values, vectors, r, largest=largest)


def gram_partial(M: Operand, r: int, *, largest: bool) -> Solution:
    """Only the wanted eigenvectors of the float64 Gram matrix, by LAPACK's syevr (CPU only; torch has no such call)."""
    if M.device.type != "cpu":
        raise Unsolved("needs the CPU")
    from scipy.linalg import LinAlgError, eigh

    wanted = [M.n - r - 1, M.n - 1] if largest else [0, r]
    try:
        vectors = eigh(M.gram.numpy().T, subset_by_index=wanted, driver="evr", check_finite=False)[1]
    except LinAlgError as error:
        raise Unsolved(str(error)) from None
    return from_block(M, torch.from_numpy(vectors), r, largest=largest, times=M.gram.matmul)


def from_eigen(M: Operand, values: Tensor, vectors: Tensor, r: int, *, largest: bool) -> Solution:
    """The r wanted of the eigenvalues (n,) and eigenvectors (n, n) of the Gram, ascending."""
    block = vectors[:, -r - 1 :] if largest else vectors[:, : r + 1]
    norm = math.sqrt(max(float(values[-1]), 0.0))
    return from_block(M, block, r, largest=largest, times=M.gram.matmul, norm=norm)


def gesvda(M: Operand, r: int, *, largest: bool) -> Solution:
    """cuSOLVER's approximate SVD for tall matrices (CUDA only), judged by its residuals."""
    vectors, values, _ = torch.linalg.svd(M.matrix, full_matrices=False, driver="gesvda")
    block = vectors[:, : r + 1] if largest else vectors[:, -r - 1 :]
    return from_block(M, block, r, largest=largest, times=M.gram_times, norm=float(values[0]))


def svd64(M: Operand, r: int, *, largest: bool) -> Solution:
    """Full float64 SVD: the reference."""
    left, values, right = torch.linalg.svd(M.matrix, full_matrices=False)
    norm = float(values[0])
    chosen = slice(0, r) if largest else slice(M.n - r, M.n)
    beyond = r if largest else M.n - r - 1
    residuals = (M.matrix.T @ left - right.T * values).norm(dim=0)
    evidence = Evidence(
        residuals[chosen],
        float(values[beyond]),
        float(residuals[beyond]),
        noise=4 * EPS * norm,
        norm=norm,
        squared=False,
    )
    return Solution(left[:, chosen], values[chosen], evidence)


def triangular(M: Operand, r: int, *, tolerance: float) -> Solution:
    """The r smallest directions by inverse iteration with R, M^T = Q R: accurate where the Gram matrix is not."""
    R = torch.linalg.qr(M.matrix.T, mode="r")[1]
    diagonal = R.diagonal()
    largest_entry = float(diagonal.abs().max())
    norm = _norm(R)
    # A zero on the diagonal becomes one rounding error of R, which moves no singular value by more than that.
    diagonal.copy_(torch.where(diagonal.abs() < EPS * largest_entry, EPS * largest_entry, diagonal))
    generator = torch.Generator(device=M.device).manual_seed(0)
    columns = min(M.n, r + max(8, r // 2))
    right = torch.randn(M.n, columns, dtype=torch.float64, device=M.device, generator=generator)
    before = math.inf
    for _ in range(SWEEPS):
        left = torch.linalg.qr(torch.linalg.solve_triangular(R.T, right, upper=False))[0]
        Q, small = torch.linalg.qr(torch.linalg.solve_triangular(R, left, upper=True))
        rotation, inverse_values, left_rotation = torch.linalg.svd(small)
        right, left, values = Q @ rotation, left @ left_rotation.T, 1 / inverse_values  # values ascend
        residuals = torch.hypot((R.T @ left - right * values).norm(dim=0), (R @ right - left * values).norm(dim=0))
        wanted = torch.arange(r - 1, -1, -1, device=M.device)
        evidence = _unsquared(residuals[wanted], values[r], residuals[r], norm)
        solution = Solution(right[:, wanted], values[wanted], evidence)
        error = solution.error(largest=False)
        if error <= tolerance or (evidence.at_rounding() and not error < before / 4):
            return solution
        before = error
    raise Unsolved(f"not converged after {SWEEPS} sweeps (estimated error {error:.1e})")


def _unsquared(residuals: Tensor, next_value: Tensor, next_residual: Tensor, norm: float) -> Evidence:
    """Evidence of a route whose only hidden error is the rounding of M itself."""
    return Evidence(residuals, float(next_value), float(next_residual), noise=4 * EPS * norm, norm=norm, squared=False)


def _norm(R: Tensor) -> float:
    """Largest singular value of R by power iteration, good to a few per cent."""
    x = torch.ones(R.shape[0], 1, dtype=R.dtype, device=R.device)
    for _ in range(12):
        x = R.T @ (R @ (x / x.norm().clamp_min(1e-300)))
    return math.sqrt(float(x.norm()))
