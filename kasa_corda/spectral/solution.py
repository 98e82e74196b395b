"""What a route hands back: r directions in float64 with the evidence of their accuracy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .accuracy import Evidence, gram_noise
from .operand import Operand


class Unsolved(Exception):
    """A route gives up; its text says why, and the next one takes over."""


class Imprecise(Unsolved):
    """So does any other route through the Gram matrix, whose rounding hides what is wanted."""


@dataclass(frozen=True)
class Solution:
    """r directions of an ``Operand``, in its scale."""

    vectors: Tensor
    """(n, r) orthonormal, float64"""
    values: Tensor
    """(r,) singular values, descending"""
    evidence: Evidence

    def error(self, *, largest: bool) -> float:
        """See ``Evidence.error``."""
        return self.evidence.error(self.values, largest=largest)

    def polished(self, M: Operand) -> Solution:
        """With values measured as ||M^T u||: roots of Rayleigh quotients lose half the digits of small ones."""
        values, order = M.column_norms(self.vectors).sort(descending=True)
        evidence = replace(self.evidence, residuals=self.evidence.residuals[order])
        return Solution(self.vectors[:, order], values, evidence)


def from_block(
    M: Operand, X: Tensor, r: int, *, largest: bool, times: Callable[[Tensor], Tensor], norm: float | None = None
) -> Solution:
    """Judge the orthonormal columns X (n, more than r), near eigenvectors of the Gram, by their residuals.

    ``times`` multiplies by the Gram; ``norm`` is the largest singular value if it is known.
    """
    GX = times(X)
    quotients = (X * GX).sum(0)
    residuals = (GX - X * quotients).norm(dim=0)
    order = quotients.argsort(descending=largest)[: r + 1]
    measured = torch.stack([quotients[order[-1]].clamp_min(0).sqrt(), residuals[order[-1]]])
    next_value, next_residual = measured.tolist()
    wanted = order[:r] if largest else order[:r].flip(0)
    evidence = Evidence(
        residuals[wanted],
        next_value,
        next_residual,
        noise=gram_noise(M.mean_square, M.n),
        norm=M.norm if norm is None else norm,
        squared=True,
    )
    return Solution(X[:, wanted], quotients[wanted].clamp_min(0).sqrt(), evidence)
