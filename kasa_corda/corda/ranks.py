"""Dynamic ranks (CorDA++, experimental): one pass over the model for the spectra, then the allocation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from ..calibration.samples import Calibration
from .decomposition import Recipe, checked_condition
from .layers import weight_of
from .parts import parts_of
from .plusplus import LayerSpectrum, allocate, spectrum_of
from .state import PreparationState

FILE = "ranks"


@torch.no_grad()
def allocated_ranks(
    model: nn.Module, targets: Sequence[str], calibration: Calibration, recipe: Recipe, state: PreparationState
) -> dict[str, int]:
    """Full layer name -> rank, read back if an interrupted preparation had found it; the model is not changed."""
    stored = state.load_note(FILE)
    if stored is not None:
        return stored
    spectra: dict[str, LayerSpectrum] = {}
    for part in parts_of(model, targets, calibration, recipe, []):
        for name, layer in part.layers.items():
            spectra[name] = spectrum_of(weight_of(layer), checked_condition(part.covariances[name], recipe))
    ranks = allocate(spectra, recipe.rank, recipe.mode)
    state.save_note(FILE, ranks)
    return ranks
