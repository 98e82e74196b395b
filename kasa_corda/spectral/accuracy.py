"""How far a computed subspace can be from the exact one: residual and rounding against the gap at the cut.

Davis-Kahan for a Gram matrix G = M M^T, Wedin for M itself: the sine of the largest angle between the computed and
the exact subspace is at most the norm of the residual over the distance between the wanted and the unwanted part of
the spectrum. Rounding made before the residual is taken (in forming G) does not show in it, so it is added.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

EPS = torch.finfo(torch.float64).eps
TOLERANCE = 5e-6
"""default bound on the estimated sine of the largest angle; the residual of the last sweep is usually far below it"""


@dataclass(frozen=True)
class Evidence:
    """Residuals of r singular directions and what is known of the first one beyond the cut."""

    residuals: Tensor
    """(r,) norm of G u - value^2 u, or of the two residuals of M if not ``squared``; ordered as the values"""
    next_value: float
    """the singular value on the other side of the cut"""
    next_residual: float
    noise: float
    """norm of the rounding error of G (squared) or of M"""
    norm: float
    """largest singular value of M, at least to a few per cent"""
    squared: bool
    """whether the route went through the Gram matrix, whose condition is that of M squared"""

    @classmethod
    def unsquared(cls, residuals: Tensor, next_value: float, next_residual: float, norm: float) -> Evidence:
        """Of a route whose only hidden error is the rounding of M itself."""
        return cls(residuals, next_value, next_residual, noise=4 * EPS * norm, norm=norm, squared=False)

    def error(self, values: Tensor, *, largest: bool) -> float:
        """Bound on the sine of the largest angle to the exact subspace; inf if the cut has no measurable gap."""
        cut = _at_cut(values, largest=largest)
        wanted, unwanted = (cut**2, self.next_value**2) if self.squared else (cut, self.next_value)
        gap = abs(wanted - unwanted) - self.next_residual
        if gap <= 0 or (wanted > unwanted) != largest:
            return math.inf
        return (float(self.residuals.norm()) + self.noise) / gap

    def attainable(self, values: Tensor, *, largest: bool) -> float:
        """A guess, on the low side, of the error that a route without squaring would leave."""
        cut = _at_cut(values, largest=largest)
        gap = abs(cut - self.next_value)
        if self.squared:
            gap += self.noise / max(cut, self.next_value, math.sqrt(self.noise), EPS * self.norm)
        return 4 * EPS * self.norm / gap if gap > 0 else math.inf

    def can_resolve(self, values: Tensor, *, largest: bool, tolerance: float = TOLERANCE) -> bool:
        """Whether float64 separates the two sides of the cut to ``tolerance``."""
        return self.attainable(values, largest=largest) <= tolerance

    def at_rounding(self) -> bool:
        """Whether the residuals are as small as rounding lets them be."""
        return float(self.residuals.max()) <= 20 * max(self.noise, EPS * self.norm ** (2 if self.squared else 1))

    def scaled(self, scale: float) -> Evidence:
        """The same for the matrix times ``scale``."""
        if scale == 1.0:
            return self
        unit = scale**2 if self.squared else scale
        return replace(
            self,
            residuals=self.residuals * unit,
            next_value=self.next_value * scale,
            next_residual=self.next_residual * unit,
            noise=self.noise * unit,
            norm=self.norm * scale,
        )

    def narrowed(self, values: Tensor, r: int, *, largest: bool) -> Evidence:
        """The evidence for the outermost r directions only."""
        kept = slice(0, r) if largest else slice(len(values) - r, None)
        neighbour = r if largest else len(values) - r - 1
        return replace(
            self,
            residuals=self.residuals[kept],
            next_value=float(values[neighbour]),
            next_residual=float(self.residuals[neighbour]),
        )


def gram_noise(diagonal_mean: float, n: int) -> float:
    """Norm of the rounding error of an n x n float64 Gram matrix: n^2 independent errors of eps times its diagonal."""
    return EPS * math.sqrt(n) * diagonal_mean


def _at_cut(values: Tensor, *, largest: bool) -> float:
    return float(values[-1] if largest else values[0])
