"""CorDA's preparation of a model: covariances, adapters and residual weights, block by block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from torch import nn

from ..calibration.hooks import resolve
from ..calibration.samples import Calibration
from .decomposition import Recipe, condition_notes, decompose_part
from .factors import residual_weight
from .layers import set_weight, weight_of
from .parts import parts_of
from .ranks import allocated_ranks
from .state import Adapter, PreparationState, fingerprint


@dataclass
class Prepared:
    """The adapters of a model whose target layers now hold their residual weights."""

    adapters: dict[str, Adapter]
    """full layer name -> A (r, in) and B (out, r), float32, in CPU memory"""
    diagnostics: list[dict[str, Any]]
    """one row per layer: shape, rank, tokens, condition and numerical rank of C, damping, route, norms"""
    notes: list[str]
    ranks: dict[str, int]
    """full layer name -> rank, where it is not the recipe's (dynamic allocation)"""


def prepare(model: nn.Module, targets: Sequence[str], calibration: Calibration, recipe: Recipe) -> Prepared:
    """Find every target layer's adapter and put the residual W - scale * B A in its place.

    The forward pass with the adapters is that of the untouched model. Blocks finished by an interrupted call
    (``calibration.folder``) are read back instead of being decomposed again. KasaCordaError names a layer whose
    inputs are NaN or whose covariance can't be used.
    """
    layers = resolve(model, targets)
    identity = {"calibration": calibration.fingerprint, "model": fingerprint(layers), **asdict(recipe)}
    state = PreparationState(calibration.folder, {**identity, "precision": calibration.config.precision})
    prepared = Prepared({}, [], [], {})
    if recipe.allocation == "dynamic":
        prepared.ranks = allocated_ranks(model, list(layers), calibration, recipe, state)
        recipe = replace(recipe, ranks=prepared.ranks)
    for part in parts_of(model, list(layers), calibration, recipe, prepared.notes, finished=state.has):
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
    prepared.notes += condition_notes(prepared.diagnostics, recipe.max_condition)
    prepared.notes += [state.note] if state.note else []
    for note in prepared.notes:
        calibration.progress.say(f"note: {note}")
    return prepared
