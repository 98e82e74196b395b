"""Route ``deflated``: the smallest directions from the Gram matrix of M with its outlying singular values squeezed.

Rounding in G = M M^T is relative to the largest singular values. A covariance with a few outlying directions (deep
layers of language models) makes them so large that G loses the smallest ones although the rest of the spectrum is
harmless. P M with P = I - Q D Q^T, Q the outlying left singular vectors, has them at the height of the rest, and every
pair (u, v) with u orthogonal to Q is left as it is: M^T u = (P M)^T u. How orthogonal the result is gets measured.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from torch import Tensor

from .accuracy import EPS
from .columns import orthonormal
from .operand import Operand
from .solution import Imprecise, Solution, Unsolved

SHARES = (1 / 32, 1 / 8)
"""of the directions that are looked at, one after the other"""
WORTHWHILE = 30.0
"""a matrix whose largest singular value is this far above the leading ones' smallest is deflated"""
OUTLYING = 2.0
"""how far above it a singular value is squeezed"""


class Outliers(NamedTuple):
    """Outlying left singular vectors of M."""

    Q: Tensor
    """(n, k) orthonormal"""
    rows: Tensor
    """(k, columns of M) Q^T M"""
    D: Tensor
    """(k,) what is taken off: 1 - height of the rest / singular value"""
    height: float
    """of the rest"""
    norm: float
    """largest singular value"""


def deflated(M: Operand, r: int, *, tolerance: float, solve: Callable[[Operand], Solution]) -> Solution:
    """The r smallest directions; ``solve`` finds them in the squeezed matrix.

    More directions are squeezed if a few don't do. Unsolved if nothing sticks out, Imprecise if it isn't enough.
    """
    for share in SHARES:
        try:
            solution = _squeezed(M, r, share, solve)
        except Imprecise:
            continue
        if solution.error(largest=False) <= tolerance:
            return solution
    raise Imprecise("the gap at the cut is below the precision of the Gram matrix without its outlying directions")


def sticks_out(M: Operand) -> bool:
    """Whether some singular values are far above the rest."""
    values = M.leading(SHARES[0])[1]
    return bool(values[0] > WORTHWHILE * values[-1])


def _squeezed(M: Operand, r: int, share: float, solve: Callable[[Operand], Solution]) -> Solution:
    top = _outliers(M, r, share)
    squeezed = Operand(M.matrix - (top.Q * top.D) @ top.rows, M.name)
    found = solve(squeezed)
    values, evidence = found.values * squeezed.scale, found.evidence.scaled(squeezed.scale)
    tilt = found.vectors.T @ top.Q
    # Wedin's bound for what squeezing changed, put as noise of the squared gap. Where Q is not quite orthogonal to the
    # smallest directions, M^T u changes by what tilts them against rows of length ``height``.
    moved = 2 * (float(tilt.norm()) * top.height + 4 * EPS * top.norm) * (float(values[0]) + evidence.next_value)
    vectors = found.vectors - top.Q @ tilt.T
    return Solution(vectors, values, replace(evidence, noise=evidence.noise + moved, norm=top.norm))


def _outliers(M: Operand, r: int, share: float) -> Outliers:
    X = M.leading(share)[0]
    if r + X.shape[1] > M.n // 2:
        raise Unsolved("the rank leaves no room for deflation")
    # once more without squaring: G's rounding is too much for the smaller ones
    X = orthonormal(M.matrix @ (X.T @ M.matrix).T)
    rows = X.T @ M.matrix
    values = rows.norm(dim=1)
    height = values.min()
    chosen = values > OUTLYING * height
    if not bool(chosen.any()):
        raise Unsolved("no singular value sticks out")
    return Outliers(X[:, chosen], rows[chosen], 1 - height / values[chosen], float(height), float(values.max()))
