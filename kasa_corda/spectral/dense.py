"""The routes that decompose a whole matrix."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .accuracy import Evidence
from .operand import Operand
from .solution import Solution, Unsolved, from_block


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
    evidence = Evidence.unsquared(residuals[chosen], float(values[beyond]), float(residuals[beyond]), norm)
    return Solution(left[:, chosen], values[chosen], evidence)
