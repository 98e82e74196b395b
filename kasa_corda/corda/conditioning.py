"""Is a covariance invertible, and if not, how much damping makes it so. Float64; no n x n inverse is formed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import KasaCordaError

MAX_CONDITION = 1e7
"""a covariance of a larger condition number counts as singular: its smallest eigenvalues are rounding in float32"""
EXACT = 1024
"""up to this width the condition number comes from all eigenvalues, beyond from block iterations"""
MAX_DOUBLINGS = 20
AUTHORS_DAMPING = 0.01
AUTHORS_TOLERANCE = 0.05
VECTORS, ROUNDS = 8, 4
PROBES = 16


@dataclass
class Conditioned:
    """A covariance ready for decomposition and what was found about it."""

    matrix: Tensor
    """(in, in) float64, damped if ``damping`` is above 0"""
    condition: float
    """condition number of the covariance as collected; infinite if it has no Cholesky factor"""
    numerical_rank: int
    """how many eigenvalues are above largest / max_condition, as collected; about, beyond EXACT columns"""
    damping: float = 0.0
    """added to the diagonal, as a multiple of its mean"""
    doublings: int = 0


def conditioned(C: Tensor, *, damping: str = "when_singular", max_condition: float = MAX_CONDITION) -> Conditioned:
    """Check and, where asked for or needed, damp a covariance C (in, in).

    ``when_singular`` adds the smallest multiple of the identity that brings the condition number to about
    ``max_condition``, only if it is above. ``always`` is what the authors' code and PEFT do: 0.01 x the mean of the
    diagonal, doubled until a float32 inverse is within 0.05 of one (Frobenius norm). KasaCordaError if C is zero or
    not finite, or no damping helps.
    """
    C = C.double()
    mean = C.diagonal().mean().item()
    if not mean > 0 or not torch.isfinite(C.sum()):
        raise KasaCordaError("the covariance is zero or not finite")
    largest, smallest = extremes(C)
    condition = largest / smallest if smallest > 0 else float("inf")
    singular = condition > max_condition
    rank = _numerical_rank(C, largest / max_condition) if singular else len(C)
    found = Conditioned(C, condition, rank)
    if damping == "always":
        return _damped(found, AUTHORS_DAMPING * mean, mean, _float32_inverse_is_close)
    if singular:
        # slightly more than needed, so that rounding does not cost a doubling
        needed = 1.01 * (largest / max_condition - min(smallest, 0.0))
        return _damped(found, needed, mean, lambda matrix: ratio(*extremes(matrix)) <= max_condition)
    return found


def extremes(C: Tensor) -> tuple[float, float]:
    """Largest and smallest eigenvalue of a symmetric C; the smallest is 0 if C has no Cholesky factor.

    Beyond EXACT columns both are estimates by Rayleigh-Ritz on the Krylov space of VECTORS vectors and ROUNDS (inverse)
    iterations: the largest never too large, the smallest never too small.
    """
    if len(C) <= EXACT:
        values = torch.linalg.eigvalsh(C)
        return values[-1].item(), values[0].item()
    generator = torch.Generator().manual_seed(0)
    start = torch.linalg.qr(torch.randn(len(C), VECTORS, generator=generator, dtype=C.dtype).to(C.device))[0]
    largest = _largest(C.matmul, start)
    factor, failed = torch.linalg.cholesky_ex(C)
    if failed:
        return largest, 0.0
    return largest, 1 / _largest(lambda X: torch.cholesky_solve(X, factor), start)


def _largest(apply: Callable[[Tensor], Tensor], start: Tensor) -> float:
    """Largest eigenvalue of a symmetric positive map in the Krylov space of ``start`` (block Lanczos)."""
    blocks, images = [start], []
    for _ in range(ROUNDS):
        images.append(apply(blocks[-1]))
        X, Y = torch.cat(blocks, dim=1), images[-1]
        for _ in range(2):
            Y = Y - X @ (X.T @ Y)
        blocks.append(torch.linalg.qr(Y)[0])
    X, Y = torch.cat(blocks[:-1], dim=1), torch.cat(images, dim=1)
    return torch.linalg.eigvalsh(X.T @ Y)[-1].item()


def ratio(largest: float, smallest: float) -> float:
    return largest / smallest if smallest > 0 else float("inf")


def _damped(found: Conditioned, start: float, mean: float, accept: object) -> Conditioned:
    """``start`` on the diagonal, doubled until ``accept``."""
    amount = start
    for doublings in range(MAX_DOUBLINGS + 1):
        matrix = found.matrix.clone()
        matrix.diagonal().add_(amount)
        if accept(matrix):  # type: ignore[operator]
            return Conditioned(matrix, found.condition, found.numerical_rank, amount / mean, doublings)
        amount *= 2
    raise KasaCordaError(f"the covariance stays singular with {amount / mean:.3g} x its mean diagonal added")


def _float32_inverse_is_close(matrix: Tensor) -> bool:
    narrow = matrix.float()
    identity = torch.eye(len(narrow), device=narrow.device)
    inverse, failed = torch.linalg.inv_ex(narrow)
    return not failed and torch.dist(narrow @ inverse, identity).item() < AUTHORS_TOLERANCE


def _numerical_rank(C: Tensor, threshold: float) -> int:
    """Sum of lambda / (lambda + threshold): eigenvalues well above the threshold count one, well below it nothing.

    Beyond EXACT columns by Hutchinson's estimate of the trace of (C + threshold I)^-1, good to about 1 %.
    """
    if len(C) <= EXACT:
        values = torch.linalg.eigvalsh(C).clamp_min(0)
        return round((values / (values + threshold)).sum().item())
    for _ in range(MAX_DOUBLINGS):
        shifted = C.clone()
        shifted.diagonal().add_(threshold)
        factor, failed = torch.linalg.cholesky_ex(shifted)
        if not failed:
            break
        threshold *= 2  # rounding made eigenvalues more negative than that
    generator = torch.Generator().manual_seed(0)
    signs = 2.0 * torch.randint(0, 2, (len(C), PROBES), generator=generator).to(C) - 1
    lost = threshold * (signs * torch.cholesky_solve(signs, factor)).sum().item() / PROBES
    return round(len(C) - lost)
