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

from .columns import orthonormal, start_block
from .operand import Operand
from .solution import Imprecise, Solution, Unsolved, from_block

SWEEPS = 10
HIGHEST_DEGREE = 32
MOST_FILTERS = 4
WIDEST = 1e3
"""a block whose Ritz values lie further apart leaves the filter no growth; a higher shift brings them together"""
SPACING = 8.0
"""the gap at a cut after r values is taken to be at most this share of the last one's square, over r"""
GROWTH = 1e9
"""most that one filter may amplify: beyond it columns lose the digits that tell them apart"""

Apply = Callable[[Tensor], Tensor]


def filtered(
    M: Operand,
    r: int,
    *,
    largest: bool,
    tolerance: float,
    products: int,
    explicit: bool = True,
    shift: float | None = None,
) -> Solution:
    """The r wanted directions. Unsolved if ``products`` multiplications of the block will not do.

    ``explicit=False`` solves with the Cholesky factor instead of forming the inverse: slower, one n x n less.
    ``shift`` is the first one: below the r-th smallest eigenvalue of G; by default that of a square random matrix.
    """
    X = start_block(M.n, min(M.n, r + max(8, r // 2)), M.device)
    shift = 0.5 * M.mean_square * (r / M.n) ** 2 if shift is None else shift
    A: Apply = M.gram.matmul if largest else _inverse(M.gram, shift, explicit)
    for _ in range(2):
        X = orthonormal(A(X))
    done = 3
    before = math.inf
    for _ in range(SWEEPS):
        ritz, X = ritz_pairs(A, X)
        solution = from_block(M, X, r, largest=largest, times=M.gram.matmul)
        error = solution.error(largest=largest)
        if not largest and solution.evidence.noise * r > SPACING * tolerance * float(solution.values[0]) ** 2:
            raise Imprecise("the gap at the cut is below the precision of the Gram matrix")
        if error <= tolerance or (solution.evidence.at_rounding() and not error < before / 4):
            return solution
        before = error
        cut = float(solution.values[0]) ** 2
        too_low = cut > 16 * shift and ritz[0] > WIDEST * ritz[-1]
        if not largest and (cut < shift / 16 or too_low):
            shift = 2 * cut
            A = _inverse(M.gram, shift, explicit)
            X = orthonormal(A(X))
            continue
        degree, times = block_degree(ritz, r, error, tolerance)
        if done + degree * times > products:
            break
        for _ in range(times):
            X = orthonormal(chebyshev(A, X, ritz, degree))
        done += degree * times + 1
    raise Unsolved(f"not converged after {done} products (estimated error {error:.1e})")


def _inverse(G: Tensor, shift: float, explicit: bool) -> Apply:
    shifted = G.clone()
    shifted.diagonal().add_(shift)
    L, info = torch.linalg.cholesky_ex(shifted)
    if int(info):
        raise Unsolved("the Gram matrix has no Cholesky factor")
    return torch.cholesky_inverse(L).matmul if explicit else lambda X: torch.cholesky_solve(X, L)


def ritz_pairs(A: Apply, X: Tensor) -> tuple[list[float], Tensor]:
    """Rayleigh-Ritz of A on the block X: values descending, and the vectors after one more product with A."""
    Y = A(X)
    values, rotation = torch.linalg.eigh(X.T @ Y)
    positive = values.clamp_min(1e-14 * values[-1])  # a singular A has Ritz values of 0 but for rounding
    return positive.flip(0).tolist(), orthonormal(Y @ rotation.flip(1))


def _position(value: float, end: float) -> float:
    """Where an eigenvalue lies when [0, end] is mapped to [-1, 1]."""
    return max(2 * value / end - 1, 1 + 1e-6)


def block_degree(ritz: list[float], r: int, error: float, tolerance: float) -> tuple[int, int]:
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


def chebyshev(A: Apply, X: Tensor, ritz: list[float], degree: int) -> Tensor:
    """T_degree(2 A / end - 1) X, each column divided by what the polynomial is at its Ritz value."""
    end = ritz[-1]
    heights = [math.cosh(degree * math.acosh(_position(value, end))) for value in ritz]
    previous = X / torch.tensor(heights, dtype=X.dtype, device=X.device)
    current = A(previous) * (2 / end) - previous
    for _ in range(degree - 1):
        previous, current = current, A(current) * (4 / end) - 2 * current - previous
    return current
