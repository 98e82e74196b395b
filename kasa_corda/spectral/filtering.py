"""Route ``filtered``: subspace iteration on the float64 Gram or its inverse, sped up by a Chebyshev filter.

The r wanted eigenvectors of G are the dominant ones of an operator A: of G itself for the top, of (G + mu I)^-1 for
the bottom. A block of a few more than r columns is multiplied by the Chebyshev polynomial of A that stays below 1 on
the unwanted part [0, smallest Ritz value] and grows fastest above it, orthonormalised, and rotated to Ritz vectors
(Zhou, Saad, Tiago and Chelikowsky 2006 call this CheFSI). The small positive shift mu keeps the explicit inverse
accurate when G is nearly singular, and keeps the columns of the block within a few digits of each other; matrix
products with an explicit inverse are much faster than triangular solves on a GPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .operand import Operand
from .solution import Imprecise, Solution, Unsolved, from_block

SWEEPS = 10
HIGHEST_DEGREE = 32
MOST_FILTERS = 4
GROWTH = 1e9
"""most that one filter may amplify: beyond it columns lose the digits that tell them apart"""

Apply = Callable[[Tensor], Tensor]


def filtered(M: Operand, r: int, *, largest: bool, tolerance: float, products: int, explicit: bool = True) -> Solution:
    """The r wanted directions. Unsolved if ``products`` multiplications of the block will not do.

    ``explicit=False`` solves with the Cholesky factor instead of forming the inverse: slower, one n x n less.
    """
    X = _start(M, min(M.n, r + max(8, r // 2)))
    shift = 0.5 * M.mean_square * (r / M.n) ** 2  # below the r-th smallest eigenvalue of a square random matrix
    A: Apply = M.gram.matmul if largest else _inverse(M.gram, shift, explicit)
    for _ in range(2):
        X = orthonormal(A(X))
    done = 3
    before = math.inf
    for _ in range(SWEEPS):
        ritz, X = _ritz(A, X)
        solution = from_block(M, X, r, largest=largest, times=M.gram.matmul)
        error = solution.error(largest=largest)
        if error <= tolerance or (solution.evidence.at_rounding() and not error < before / 4):
            return solution
        before = error
        cut = float(solution.values[0]) ** 2
        if not largest and cut < shift / 16:
            if cut < 1e3 * solution.evidence.noise:
                raise Imprecise("the smallest singular values are below the precision of the Gram matrix")
            shift = 2 * cut
            A = _inverse(M.gram, shift, explicit)
            X = orthonormal(A(X))
            continue
        degree, times = _degree(ritz, r, error, tolerance)
        if done + degree * times > products:
            break
        for _ in range(times):
            X = orthonormal(_chebyshev(A, X, ritz, degree))
        done += degree * times + 1
    raise Unsolved(f"not converged after {done} products (estimated error {error:.1e})")


def orthonormal(X: Tensor) -> Tensor:
    """An orthonormal basis of the columns of X: Cholesky-QR twice, Householder QR if they are too dependent."""
    Q = X
    for _ in range(2):
        L, info = torch.linalg.cholesky_ex(Q.T @ Q)
        if int(info):
            return torch.linalg.qr(X)[0]
        Q = torch.linalg.solve_triangular(L, Q.T, upper=False).T
    return Q


def _start(M: Operand, columns: int) -> Tensor:
    generator = torch.Generator(device=M.device).manual_seed(0)
    return torch.randn(M.n, columns, dtype=torch.float64, device=M.device, generator=generator)


def _inverse(G: Tensor, shift: float, explicit: bool) -> Apply:
    shifted = G.clone()
    shifted.diagonal().add_(shift)
    L, info = torch.linalg.cholesky_ex(shifted)
    if int(info):
        raise Unsolved("the Gram matrix has no Cholesky factor")
    return torch.cholesky_inverse(L).matmul if explicit else lambda X: torch.cholesky_solve(X, L)


def _ritz(A: Apply, X: Tensor) -> tuple[list[float], Tensor]:
    """Rayleigh-Ritz of A on the block X: values descending, and the vectors after one more product with A."""
    Y = A(X)
    values, rotation = torch.linalg.eigh(X.T @ Y)
    positive = values.clamp_min(1e-14 * values[-1])  # a singular A has Ritz values of 0 but for rounding
    return positive.flip(0).tolist(), orthonormal(Y @ rotation.flip(1))


def _position(value: float, end: float) -> float:
    """Where an eigenvalue lies when [0, end] is mapped to [-1, 1]."""
    return max(2 * value / end - 1, 1 + 1e-6)


def _degree(ritz: list[float], r: int, error: float, tolerance: float) -> tuple[int, int]:
    """Degree of the filter, and how often to apply it, to bring the error a little below the tolerance.

    Columns stay near their Ritz vectors while they are only orthonormalised in order, so the costly rotation can
    wait until all of it is done. A first, rough rotation (``error`` infinite) is worth less work than it asks for.
    """
    end = ritz[-1]
    needed = 1e5 if math.isinf(error) else max(10 * error / tolerance, 10.0)
    total = math.acosh(needed) / math.acosh(_position(ritz[r - 1], end))
    highest = max(1, min(HIGHEST_DEGREE, int(math.acosh(GROWTH) / math.acosh(_position(ritz[0], end)))))
    times = min(MOST_FILTERS, math.ceil(total / highest))
    return min(highest, math.ceil(total / times)), times


def _chebyshev(A: Apply, X: Tensor, ritz: list[float], degree: int) -> Tensor:
    """T_degree(2 A / end - 1) X, each column divided by what the polynomial is at its Ritz value."""
    end = ritz[-1]
    heights = [math.cosh(degree * math.acosh(_position(value, end))) for value in ritz]
    previous = X / torch.tensor(heights, dtype=X.dtype, device=X.device)
    current = A(previous) * (2 / end) - previous
    for _ in range(degree - 1):
        previous, current = current, A(current) * (4 / end) - 2 * current - previous
    return current
