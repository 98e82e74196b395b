"""Principal directions of layer inputs (EVA), from exact second moments collected block by block."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..calibration.blocks import NotStreamableError
from ..calibration.collect import evaluating, inputs_of, mask_of
from ..calibration.covariance import Covariance, Moments
from ..calibration.hooks import Recorder, resolve
from ..calibration.streaming import BlockCovariances, stream
from ..spectral import top_subspace

WHOLE = "whole"
IGNORED = -100


@dataclass(frozen=True)
class Directions:
    """What one layer's inputs vary along."""

    components: Tensor
    """(k, in) orthonormal rows, float32, the strongest first"""
    ratios: Tensor
    """(k,) share of the inputs' total variance, float64"""


def masked(batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The batch with tokens whose label is ignored left out of the moments, as EVA's authors and PEFT do."""
    labels = batch.get("labels")
    if labels is None or labels.shape != batch["input_ids"].shape:
        return dict(batch)
    return {**batch, "calibration_mask": (labels != IGNORED).long()}


def moments_of(
    model: nn.Module,
    targets: Sequence[str],
    batches: Sequence[Mapping[str, Tensor]],
    *,
    finished: Callable[[str], bool] = lambda part: False,
) -> Iterator[BlockCovariances]:
    """Sums of x x^T and of x of every target layer's inputs; one block at a time where the model's blocks can be run
    by hand, else all at once. ``finished`` parts come without."""
    wanted, device = Moments(means=True), batches[0]["input_ids"].device
    chosen = [masked(batch) for batch in batches]
    try:
        yield from stream(model, chosen, targets, wanted, device=device, finished=finished)
        return
    except NotStreamableError:
        pass
    layers = resolve(model.to(device), targets)
    recorder = Recorder({} if finished(WHOLE) else layers, wanted)
    with evaluating(model), recorder.watching():
        for batch in chosen if not finished(WHOLE) else ():
            recorder.begin(mask_of(batch))
            model(**inputs_of(model, batch))
    yield BlockCovariances(WHOLE, layers, recorder.covariances())


def directions(moments: Covariance, k: int, *, centred: bool) -> Directions:
    """The k strongest directions of a layer's inputs X (tokens, in): right singular vectors of X, less its mean or not.

    k is cut to the width of the layer.
    """
    S = moments.matrix.double()
    if centred:
        assert moments.mean is not None
        mean = moments.mean.double()
        S = S - moments.tokens * torch.outer(mean, mean)
    k = min(k, len(S))
    if k < len(S):
        found = top_subspace(S, k, dtype=torch.float64, name=moments.layers[0])
        values, vectors = found.values, found.basis
    else:
        values, vectors = (t.flip(-1) for t in torch.linalg.eigh(S))
    total = S.trace().clamp_min(torch.finfo(S.dtype).tiny)
    # the sign that makes the largest entry positive, whatever computed the vector
    vectors = vectors * vectors.gather(0, vectors.abs().argmax(0, keepdim=True)).sign()
    return Directions(vectors.T.float().contiguous(), values.clamp_min(0) / total)


def ranks(ratios: Mapping[str, Sequence[float]], budget: int) -> dict[str, int]:
    """How many components each layer gets when the ``budget`` largest ratios of all layers are kept.

    Where layers tie, because they read one tensor, the first in order gets more.
    """
    ranked = sorted(((-ratio, order, name) for order, (name, found) in enumerate(ratios.items()) for ratio in found))
    counts = dict.fromkeys(ratios, 0)
    for _, _, name in ranked[:budget]:
        counts[name] += 1
    return counts
