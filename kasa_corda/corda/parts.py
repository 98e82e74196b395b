"""A model in parts with the covariances of their layers: block by block where possible, else as a whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch import nn

from ..calibration.blocks import NotStreamableError
from ..calibration.collect import collect_covariances
from ..calibration.covariance import Covariance, Moments
from ..calibration.hooks import resolve
from ..calibration.samples import Calibration
from ..calibration.streaming import BlockCovariances, stream
from .decomposition import Recipe, checked_condition
from .layers import weight_of
from .plusplus import spectrum_of

WHOLE = "whole"
"""name of the only part of a model that is not streamed"""


def parts_of(
    model: nn.Module,
    targets: Sequence[str],
    calibration: Calibration,
    recipe: Recipe,
    notes: list[str],
    *,
    finished: Callable[[str], bool] = lambda part: False,
) -> Iterator[BlockCovariances]:
    """Each part in order; ``finished`` ones come without covariances. Remarks are added to ``notes``.

    With several candidate calibration sets each layer gets the covariance of the one with the lowest CorDA++ score.
    """
    config = calibration.config
    moments = Moments(recipe.switches.normalisation, recipe.switches.divisor, config.precision)
    candidates = [calibration.batches(), *calibration.alternative_batches()]
    if config.mode != WHOLE:
        options: dict[str, Any] = {"device": calibration.device, "offload": config.offload, "finished": finished}
        # in lockstep: a block may only be changed after every candidate has passed it
        streams = [
            stream(
                model,
                batches,
                targets,
                moments,
                progress=calibration.progress if index == 0 else None,
                **options,
            )
            for index, batches in enumerate(candidates)
        ]
        try:
            for parts in zip(*streams, strict=True):
                yield best_of(parts, recipe)
            return
        except NotStreamableError as error:
            if config.mode == "streamed":
                raise
            notes.append(f"calibrated as a whole: {error}")
    if calibration.device is not None:
        model.to(calibration.device)
    layers = resolve(model, targets)
    found = []
    for batches in candidates:
        covariances: dict[str, Covariance] = {}
        if not finished(WHOLE):
            covariances = collect_covariances(
                model,
                batches,
                targets,
                normalisation=moments.normalisation,
                divisor=moments.divisor,
                precision=moments.precision,
                progress=calibration.progress,
            )
        found.append(BlockCovariances(WHOLE, layers, covariances))
    yield best_of(found, recipe)


def best_of(parts: Sequence[BlockCovariances], recipe: Recipe) -> BlockCovariances:
    """The part with, per layer, the candidate covariance of the lowest selection score (CorDA++ Eq. 7-8)."""
    first = parts[0]
    if len(parts) == 1 or not first.covariances:
        return first
    for index, part in enumerate(parts):
        for covariance in part.covariances.values():
            covariance.candidate = index
    chosen = {}
    for name, layer in first.layers.items():
        candidates = [part.covariances[name] for part in parts]
        weight = weight_of(layer)
        chosen[name] = min(candidates, key=lambda c: spectrum_of(weight, checked_condition(c, recipe)).selection_score)
    return BlockCovariances(first.name, first.layers, chosen)
