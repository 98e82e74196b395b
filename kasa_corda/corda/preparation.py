"""CorDA's preparation of a model: covariances, adapters and residual weights, block by block."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import isfinite
from typing import Any

import torch
from torch import nn

from ..calibration.blocks import NotStreamableError
from ..calibration.collect import collect_covariances
from ..calibration.covariance import Covariance, Moments
from ..calibration.hooks import resolve
from ..calibration.samples import Calibration
from ..calibration.streaming import BlockCovariances, stream
from ..errors import KasaCordaError
from .conditioning import MAX_CONDITION, Conditioned, conditioned
from .factors import decompose, residual_weight
from .layers import set_weight, weight_of
from .presets import Switches
from .state import Adapter, PreparationState, fingerprint

WHOLE = "whole"
"""name of the only part of a preparation that is not streamed"""


@dataclass(frozen=True)
class Recipe:
    """How one model is decomposed."""

    mode: str
    rank: int
    scale: float
    switches: Switches
    exponent: float = 1.0
    max_condition: float = MAX_CONDITION
    ranks: Mapping[str, int] = field(default_factory=dict)
    """full layer name -> rank, where it differs"""

    def rank_of(self, layer: str) -> int:
        return self.ranks.get(layer, self.rank)


@dataclass
class Prepared:
    """The adapters of a model whose target layers now hold their residual weights."""

    adapters: dict[str, Adapter]
    """full layer name -> A (r, in) and B (out, r), float32, in CPU memory"""
    diagnostics: list[dict[str, Any]]
    """one row per layer: shape, rank, tokens, condition and numerical rank of C, damping, route, norms"""
    notes: list[str]


def prepare(model: nn.Module, targets: Sequence[str], calibration: Calibration, recipe: Recipe) -> Prepared:
    """Find every target layer's adapter and put the residual W - scale * B A in its place.

    The forward pass with the adapters is that of the untouched model. Blocks finished by an interrupted call
    (``calibration.folder``) are read back instead of being decomposed again. KasaCordaError names a layer whose
    inputs are NaN or whose covariance can't be used.
    """
    layers = resolve(model, targets)
    identity = {"calibration": calibration.fingerprint, "model": fingerprint(layers), **asdict(recipe)}
    state = PreparationState(calibration.folder, {**identity, "precision": calibration.config.precision})
    prepared = Prepared({}, [], [])
    for part in _parts(model, list(layers), calibration, recipe, state, prepared.notes):
        stored = state.load(part.name)
        if stored is None:
            stored = decompose_part(part, recipe)
            state.save(part.name, *stored)
        adapters, rows = stored
        for name, (A, B) in adapters.items():
            weight = weight_of(part.layers[name])
            residual = residual_weight(weight, A.to(weight.device), B.to(weight.device), recipe.scale)
            set_weight(part.layers[name], residual)
        prepared.adapters |= adapters
        prepared.diagnostics += rows
    prepared.notes += [
        *condition_notes(prepared.diagnostics, recipe.max_condition),
        *([state.note] if state.note else []),
    ]
    for note in prepared.notes:
        calibration.progress.say(f"note: {note}")
    return prepared


def _parts(
    model: nn.Module,
    targets: list[str],
    calibration: Calibration,
    recipe: Recipe,
    state: PreparationState,
    notes: list[str],
) -> Iterator[BlockCovariances]:
    """The model in parts, each with the covariances of its layers (none where it is finished)."""
    config, batches = calibration.config, calibration.batches()
    moments = Moments(recipe.switches.normalisation, recipe.switches.divisor, config.precision)
    if config.mode != WHOLE:
        options: dict[str, Any] = {"device": calibration.device, "offload": config.offload}
        try:
            yield from stream(
                model, batches, targets, moments, finished=state.has, progress=calibration.progress, **options
            )
            return
        except NotStreamableError as error:
            if config.mode == "streamed":
                raise
            notes.append(f"calibrated as a whole: {error}")
    if calibration.device is not None:
        model.to(calibration.device)
    layers = resolve(model, targets)
    covariances = {}
    if not state.has(WHOLE):
        covariances = collect_covariances(
            model,
            batches,
            targets,
            normalisation=moments.normalisation,
            divisor=moments.divisor,
            precision=moments.precision,
            progress=calibration.progress,
        )
    yield BlockCovariances(WHOLE, layers, covariances)


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
        share = (recipe.scale * result.B.double() @ result.A.double()).norm() / weight.double().norm()
        rows.append(
            {
                "layer": name,
                "out": weight.shape[0],
                "in": weight.shape[1],
                "rank": recipe.rank_of(name),
                "tokens": covariance.tokens,
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
    """The group's covariance, damped as the recipe says; it replaces the collected form, to save memory."""
    covariance.matrix = covariance.matrix.double()
    try:
        found = conditioned(
            covariance.matrix,
            damping=recipe.switches.damping,
            tokens=covariance.tokens,
            max_condition=recipe.max_condition,
        )
    except KasaCordaError as error:
        raise KasaCordaError(f"layer {covariance.layers[0]}: {error}") from None
    covariance.matrix = found.matrix
    return found


def condition_notes(rows: list[dict[str, Any]], max_condition: float = MAX_CONDITION) -> list[str]:
    """What a reader must know about covariances that are singular, or nearly."""
    notes = []
    short = [row for row in rows if row["tokens"] < row["in"]]
    if short:
        row = min(short, key=lambda row: row["tokens"] / row["in"])
        notes.append(
            f"{len(short)} of {len(rows)} layers see fewer calibration tokens than they have inputs (worst {row['layer']}:"
            f" {row['tokens']:,} tokens, {row['in']:,} inputs), so their covariances are rank-deficient; raise"
            " calibration.samples or calibration.length"
        )
    poor = [row for row in rows if row["numerical_rank"] < row["in"]]
    if poor:
        row = min(poor, key=lambda row: row["numerical_rank"] / row["in"])
        notes.append(
            f"{len(poor)} of {len(rows)} layers have a covariance of condition number above {max_condition:.0e} (worst"
            f" {row['layer']}: rank {row['numerical_rank']:,} of {row['in']:,}), damped by at most"
            f" {max(row['damping'] for row in poor):.1e} x the mean of its diagonal"
        )
    return notes
