"""One block's layers: their covariances conditioned, their adapters found, and what a reader should know of both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf, isfinite
from typing import Any

import torch

from ..calibration.covariance import Covariance
from ..calibration.streaming import BlockCovariances
from ..errors import KasaCordaError
from .conditioning import MAX_CONDITION, Conditioned, conditioned
from .factors import decompose
from .layers import weight_of
from .presets import Switches
from .state import Adapter


@dataclass(frozen=True)
class Recipe:
    """How one model is decomposed."""

    mode: str
    rank: int
    scale: float
    switches: Switches
    exponent: float = 1.0
    max_condition: float = MAX_CONDITION
    allocation: str = "uniform"
    """uniform, or dynamic: ranks by CorDA++ within the parameters of ``rank`` (experimental)"""
    ranks: Mapping[str, int] = field(default_factory=dict)
    """full layer name -> rank, where it differs"""

    def rank_of(self, layer: str) -> int:
        return self.ranks.get(layer, self.rank)


@torch.no_grad()
def decompose_part(part: BlockCovariances, recipe: Recipe) -> tuple[dict[str, Adapter], list[dict[str, Any]]]:
    """Adapters, in CPU memory, and diagnostics of the layers of one block."""
    adapters: dict[str, Adapter] = {}
    rows = []
    ready: dict[int, Conditioned] = {}
    for name, layer in part.layers.items():
        covariance = part.covariances[name]
        if id(covariance) not in ready:
            # layers of one group stand together, so an earlier group's matrices can go
            ready = {id(covariance): condition_of(covariance, recipe)}
        found, weight = ready[id(covariance)], weight_of(layer)
        result = decompose(
            weight,
            found.matrix if recipe.exponent else None,
            recipe.rank_of(name),
            recipe.mode,
            exponent=recipe.exponent,
            balance=recipe.switches.balance,
            scale=recipe.scale,
            name=name,
        )
        if not (torch.isfinite(result.A).all() and torch.isfinite(result.B).all()):
            raise KasaCordaError(f"layer {name}: the adapter has NaN or infinite entries; check the weights")
        adapters[name] = (result.A.cpu().contiguous(), result.B.cpu().contiguous())
        # ||B A||^2 = <B^T B, A A^T>
        product = ((result.B.T @ result.B) * (result.A @ result.A.T)).sum().clamp_min(0).sqrt()
        share = recipe.scale * product / weight.float().norm()
        rows.append(
            {
                "layer": name,
                "out": weight.shape[0],
                "in": weight.shape[1],
                "rank": recipe.rank_of(name),
                "tokens": covariance.tokens,
                "candidate": covariance.candidate,
                "numerical_rank": found.numerical_rank,
                "condition": found.condition if isfinite(found.condition) else None,
                "damping": found.damping,
                "doublings": found.doublings,
                "share": share.item(),
                "norm_A": result.A.norm().item(),
                "norm_B": result.B.norm().item(),
                "route": result.subspace.route,
                "residual": result.subspace.residual,
                "fallback": result.subspace.fallback,
                "error": result.subspace.error,
                "resolved": result.subspace.resolved,
            }
        )
    return adapters, rows


def condition_of(covariance: Covariance, recipe: Recipe) -> Conditioned:
    """A group's covariance, damped as the recipe says; it replaces the collected form, to save memory."""
    covariance.matrix = covariance.matrix.double()
    found = checked_condition(covariance, recipe)
    covariance.matrix = found.matrix
    return found


def checked_condition(covariance: Covariance, recipe: Recipe) -> Conditioned:
    """The same without changing it; KasaCordaError names the first layer of the group."""
    try:
        return conditioned(
            covariance.matrix,
            damping=recipe.switches.damping,
            max_condition=recipe.max_condition,
        )
    except KasaCordaError as error:
        raise KasaCordaError(f"layer {covariance.layers[0]}: {error}") from None


def condition_notes(rows: list[dict[str, Any]], max_condition: float = MAX_CONDITION) -> list[str]:
    """What a reader must know about covariances that are singular, or nearly."""
    notes = []
    short = [row for row in rows if row["tokens"] < row["in"]]
    if short:
        row = min(short, key=lambda row: row["tokens"] / row["in"])
        notes.append(
            f"{len(short)} of {len(rows)} layers see fewer calibration tokens than they have inputs (worst"
            f" {row['layer']}: {row['tokens']:,} tokens, {row['in']:,} inputs), so their covariances are"
            " rank-deficient; raise calibration.samples or calibration.length"
        )
    poor = [row for row in rows if (row["condition"] or inf) > max_condition]
    if poor:
        row = min(poor, key=lambda row: row["numerical_rank"] / row["in"])
        notes.append(
            f"{len(poor)} of {len(rows)} layers have a covariance of condition number above {max_condition:.0e} (worst"
            f" {row['layer']}: rank about {row['numerical_rank']:,} of {row['in']:,}), damped by at most"
            f" {max(row['damping'] for row in poor):.1e} x the mean of its diagonal"
        )
    return notes
