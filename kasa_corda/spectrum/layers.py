"""One layer's singular value spectrum, what a cut of r components takes from it, and how CorDA's directions lie."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class LayerSpectrum:
    """One layer W (out, in) at rank r."""

    name: str
    shape: tuple[int, int]
    before: Tensor
    """(min(out, in),) singular values of W, descending"""
    after: Tensor
    """(min(out, in),) singular values of what stays frozen: W without the r components that KaSA or CorDA takes"""
    energy_cut: float
    """share of ||W||_F^2 in the r components taken out of the frozen weight"""
    alignment_ipa: float | None = None
    """mean squared cosine between the r largest directions of W C and those of W: 1 is the same subspace"""
    alignment_kpa: float | None = None
    """the same of the r smallest"""
    condition: float | None = None
    """largest over smallest eigenvalue of C; inf if C is singular to float64"""

    def row(self) -> dict[str, Any]:
        """One line of the table."""
        return {
            "layer": self.name,
            "out": self.shape[0],
            "in": self.shape[1],
            "largest": float(self.before[0]),
            "median": float(self.before.median()),
            "smallest": float(self.before[-1]),
            "energy_cut": self.energy_cut,
            "alignment_ipa": self.alignment_ipa,
            "alignment_kpa": self.alignment_kpa,
            "condition_C": self.condition,
        }


@torch.no_grad()
def layer_spectrum(name: str, W: Tensor, r: int, cut: str = "smallest", C: Tensor | None = None) -> LayerSpectrum:
    """Spectrum before and after taking out r components of W (``cut``: smallest or largest), by full float64 SVDs.

    With a covariance C (in, in) they are the components of W C (CorDA section 3.3), else of W itself (KaSA, PiSSA).
    """
    W = W.double()
    U, before, _ = torch.linalg.svd(W, full_matrices=False)
    basis, alignments = U, {}
    if C is not None:
        C = C.to(W).double()
        basis = torch.linalg.svd(W @ C, full_matrices=False)[0]
        power = torch.linalg.eigvalsh(C)
        alignments = {
            "alignment_ipa": overlap(basis[:, :r], U[:, :r]),
            "alignment_kpa": overlap(basis[:, -r:], U[:, -r:]),
            "condition": float(power[-1] / power[0]) if power[0] > 0 else float("inf"),
        }
    taken = basis[:, -r:] if cut == "smallest" else basis[:, :r]
    part = taken.T @ W  # (r, in)
    after = torch.linalg.svdvals(W - taken @ part)
    energy = float(part.square().sum() / W.square().sum())
    return LayerSpectrum(name, (W.shape[0], W.shape[1]), before.cpu(), after.cpu(), energy, **alignments)


def overlap(first: Tensor, second: Tensor) -> float:
    """Mean squared cosine of the principal angles between two orthonormal bases (n, r)."""
    return float((first.T @ second).square().sum() / first.shape[1])
