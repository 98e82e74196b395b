"""What it costs to discard the r smallest components of every layer, by plain SVD, ASVD or CorDA (paper Figure 2)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from ..calibration.collect import evaluating, inputs_of, mask_of
from ..corda.factors import decompose, residual_weight
from ..progress import Progress

if TYPE_CHECKING:
    from ..calibration import Calibration

WAYS = ("plain", "asvd", "corda")
ASVD_EXPONENT = 0.5
ASVD_FLOOR = 1e-6


@dataclass(frozen=True)
class Point:
    """Scores of the model with the r smallest components of every target layer discarded."""

    way: str
    discarded: int
    scores: dict[str, float]

    def row(self) -> dict[str, Any]:
        return {"way": self.way, "discarded": self.discarded, **self.scores}


def weight_of(layer: nn.Module) -> Tensor:
    """(out, in) view of a linear layer's weight."""
    weight: Any = layer.weight
    return weight.detach().T if isinstance(layer, Conv1D) else weight.detach()


def activation_scales(model: nn.Module, batches: Iterable[Mapping[str, Tensor]], targets: Sequence[str]) -> dict:
    """Per layer (in,): mean |x_j| over the valid tokens of each sample, summed over samples (ASVD's abs_mean)."""
    sums: dict[str, Tensor] = {}
    valid: list[Tensor] = []

    def watch(name: str) -> Callable[..., None]:
        def hook(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            x = inputs[0].detach().float().abs()  # (batch, tokens, in)
            mask = valid[0].to(x.device)
            means = (x * mask[..., None]).sum(1) / mask.sum(1, keepdim=True).clamp_min(1)
            sums[name] = sums.get(name, 0) + means.sum(0)

        return hook

    handles = [model.get_submodule(name).register_forward_pre_hook(watch(name)) for name in targets]
    try:
        with evaluating(model):
            for batch in batches:
                valid[:] = [mask_of(batch).valid]
                model(**inputs_of(model, batch))
    finally:
        for handle in handles:
            handle.remove()
    return sums


@torch.no_grad()
def cut_smallest(model: nn.Module, targets: Sequence[str], r: int, calibration: Calibration | None) -> list[str]:
    """Discard the r smallest components of every target layer in place: by plain SVD without a calibration, else by
    ASVD with it. Returns what a reader should know.

    The layers are decomposed on the calibration's device, or on a GPU if there is one.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    scales: dict[str, Tensor] = {}
    if calibration is not None:
        home, device = next(model.parameters()).device, torch.device(calibration.device or "cpu")
        scales = activation_scales(model.to(device), calibration.batches(), targets)
        model.to(home)
    errors = []
    for name in targets:
        layer = model.get_submodule(name)
        W = weight_of(layer)
        scaling = None
        if name in scales:
            scaling = torch.diag(scales[name].to(device).double() ** ASVD_EXPONENT + ASVD_FLOOR)
        found = decompose(W.to(device), scaling, r, "kpa", balance="equal", name=name)
        W.copy_(residual_weight(W.to(device), found.A, found.B, 1.0))
        errors.append(found.subspace.error)
    worst = max((error for error in errors if error is not None), default=0.0)
    return [f"{len(errors)} layers lost their {r} smallest components; largest estimated error {worst:.1e}"]


@torch.no_grad()
def left_vectors(W: Tensor, way: str, C: Tensor | None = None, scale: Tensor | None = None) -> Tensor:
    """(out, min(out, in)) left singular vectors of W, W diag(scale^0.5 + 1e-6) or W C, in float64.

    Cutting the last r of them, W - U_b U_b^T W, is what each way leaves after its scaling is undone: the scaling
    acts on the right and is inverted there.
    """
    W = W.double()
    if way == "asvd":
        assert scale is not None
        W = W * (scale.to(W.device).double() ** ASVD_EXPONENT + ASVD_FLOOR)
    if way == "corda":
        assert C is not None
        W = W @ C.to(W.device).double()
    return torch.linalg.svd(W, full_matrices=False)[0]


@contextmanager
def discarding(layers: Mapping[str, nn.Module], vectors: Mapping[str, Tensor], r: int) -> Iterator[None]:
    """Inside the block every layer's weight lacks its r last directions; afterwards it is back to the bit."""
    originals = {name: weight_of(layer).clone() for name, layer in layers.items()}
    try:
        for name, layer in layers.items():
            basis = vectors[name]
            cut = basis[:, basis.shape[1] - r :]
            W = originals[name].double()
            weight_of(layer).copy_(W - cut @ (cut.T @ W))
        yield
    finally:
        for name, layer in layers.items():
            weight_of(layer).copy_(originals[name])


def discard_curve(
    model: nn.Module,
    targets: Sequence[str],
    ranks: Sequence[int],
    score: Callable[[], dict[str, float]],
    *,
    covariances: Mapping[str, Tensor],
    scales: Mapping[str, Tensor],
    ways: Sequence[str] = WAYS,
    progress: Progress | None = None,
) -> list[Point]:
    """Scores for every way and number of discarded components; 0 is scored once and holds for all ways."""
    layers = {name: model.get_submodule(name) for name in targets}
    screen = progress or Progress(show=False)
    untouched = score() if 0 in ranks else None
    points = []
    with screen.phase("discard", len(ways) * len([r for r in ranks if r]), "score") as phase:
        for way in ways:
            vectors = {
                name: left_vectors(weight_of(layer), way, covariances.get(name), scales.get(name))
                for name, layer in layers.items()
            }
            if untouched is not None:
                points.append(Point(way, 0, untouched))
            for r in ranks:
                if r:
                    with discarding(layers, vectors, r):
                        points.append(Point(way, r, score()))
                    phase.advance()
    return points
