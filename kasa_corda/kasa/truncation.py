"""Cutting singular components out of a weight, and whether the weight's dtype can hold the difference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..spectral import SpectralCache, Subspace, bottom_subspace, cached_bottom_subspaces, cached_top_subspaces

LOST = 0.5
"""share of the cut's norm that may drown in rounding before the cut counts as invisible"""
WORTH_STORING = 256
"""smaller side from which reading a subspace from disk beats computing it"""


def kasa_truncate(W: Tensor, r: int) -> tuple[Tensor, Subspace]:
    """W (out, in) without its r smallest singular components, in the dtype of W, and the subspace that was cut.

    KaSA section 3 (arXiv 2412.06071): W_world = sum of the k - r largest of the k = min(out, in) components.
    """
    subspace = bottom_subspace(W, r)
    up, down = removed_factors(W, subspace.basis, subspace.side)
    return (W.double() - up @ down).to(W.dtype), subspace


def removed_factors(W: Tensor, basis: Tensor, side: str) -> tuple[Tensor, Tensor]:
    """The removed part of W (out, in) as float64 factors (out, k) and (k, in): U U'W, or W V V' on the right side."""
    wide, directions = W.double(), basis.double()
    return (directions, directions.T @ wide) if side == "left" else (wide @ directions, directions.T)


@dataclass(frozen=True)
class Cut:
    """What one layer loses, W - W' = up down, and where the loss is kept."""

    up: Tensor
    """(out, k) float32 on the CPU"""
    down: Tensor
    """(k, in) float32 on the CPU"""
    side: str
    """left: up is orthonormal; right: down is"""
    placement: str
    """fold: written into the base weight; low_rank: subtracted in the forward pass"""

    @property
    def rank(self) -> int:
        return self.up.shape[1]

    @property
    def basis(self) -> Tensor:
        """(n, k) orthonormal, n = out if side is left else in: all that is needed to cut the same weight again."""
        return self.up if self.side == "left" else self.down.T


def truncation_bases(
    weights: dict[str, Tensor], counts: dict[str, int], *, largest: bool, cache: SpectralCache | None
) -> dict[str, Subspace]:
    """The subspace to cut from each weight (out, in): its ``counts[name]`` smallest, or largest, directions.

    ConfigError if a count is not below min(out, in); KasaCordaError, naming the layer, for NaN or infinite weights.
    """
    compute = cached_top_subspaces if largest else cached_bottom_subspaces
    found: dict[str, Subspace] = {}
    for count in set(counts.values()):
        same = {name: weight for name, weight in weights.items() if counts[name] == count}
        kept = {name for name, weight in same.items() if min(weight.shape) >= WORTH_STORING}
        found |= compute({name: same[name] for name in same if name in kept}, count, cache=cache)
        found |= compute({name: same[name] for name in same if name not in kept}, count, cache=None)
    return found


def place(
    weight: Tensor, subspace: Subspace, correction: str, *, quantised: bool
) -> tuple[Cut, Tensor | None, dict[str, Any]]:
    """Weigh a cut against rounding. Returns it, the truncated weight (None where the base stays), and diagnostics.

    weight: (out, in) as the forward pass sees it, in the dtype that a truncated weight would be stored in.
    ``lost_if_folded`` is ||round(W') - W'|| / ||W - W'||: 0 if all of the cut arrives in the base, 1 if none does.
    A quantised base is never written to: its cut is always low rank.
    """
    wide = weight.to(subspace.basis.device, torch.float64)
    up, down = removed_factors(wide, subspace.basis, subspace.side)
    removed = up @ down
    exact = wide - removed
    folded = exact.to(weight.dtype)
    size, rounding = float(removed.norm()), float((folded.double() - exact).norm())
    lost = rounding / size if size else 0.0
    invisible = torch.finfo(weight.dtype).bits < 32 and lost > LOST
    low_rank = quantised or correction == "low_rank" or (correction == "auto" and invisible)
    numbers = weight.numel() ** 0.5
    diagnostics = {
        "cut": subspace.basis.shape[1],
        "side": subspace.side,
        "relative_cut": size / max(float(wide.norm()), torch.finfo(torch.float64).tiny),
        "cut_rms": size / numbers,
        "rounding_rms": rounding / numbers,
        "dtype": "quantised" if quantised else str(weight.dtype).removeprefix("torch."),
        "lost_if_folded": lost,
        "placement": "low_rank" if low_rank else "fold",
        "invisible": invisible and not low_rank,
        "route": subspace.route,
        "residual": float(subspace.residual),
        "fallback": subspace.fallback,
    }
    cut = Cut(up.float().cpu(), down.float().cpu(), subspace.side, str(diagnostics["placement"]))
    return cut, None if low_rank else folded, diagnostics


def cut_again(weight: Tensor, basis: Tensor, side: str, placement: str) -> tuple[Cut, Tensor | None]:
    """The cut of a stored basis and the truncated weight, as ``place`` computed them from the same weight."""
    up, down = removed_factors(weight, basis.to(weight.device), side)
    folded = None if placement == "low_rank" else (weight.double() - up @ down).to(weight.dtype)
    return Cut(up.float().cpu(), down.float().cpu(), side, placement), folded
