"""PEFT's CorDA: its times in parts that scale differently, and its subspaces beside ours and the float64 definition."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import harness
import torch
from peft import LoraConfig
from peft.tuners.lora.config import CordaConfig
from peft.tuners.lora.corda import calib_cov_distribution, collect_eigens_for_layer, preprocess_corda
from torch import Tensor, nn

from kasa_corda.calibration import collect_covariances
from kasa_corda.calibration.samples import Calibration
from kasa_corda.corda import conditioned, decompose

COMPARED = ("0.self_attn.q_proj", "0.mlp.up_proj", "0.mlp.down_proj")
"""one layer of each shape (square, tall, wide), of the first block"""


@dataclass
class PeerTimes:
    """Seconds of one ``preprocess_corda``."""

    covariances: float
    decompositions: float

    def scaled(self, samples: float, blocks: float) -> float:
        """Seconds with so many times the samples and the blocks."""
        return (self.covariances * samples + self.decompositions) * blocks


def peft_config(rank: int) -> LoraConfig:
    targets = [f"{x}_proj" for x in ("q", "k", "v", "o", "gate", "up", "down")]
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=targets, init_lora_weights="corda")
    config.corda_config = CordaConfig(corda_method="kpm")
    return config


def feeder(model: nn.Module, calibration: Calibration) -> Any:
    """The callback that shows the model every sample, one at a time (PEFT's hooks can't take more)."""
    device = next(model.parameters()).device
    batches = [batch["input_ids"].to(device) for batch in calibration.batches()]

    def run() -> None:
        for ids in batches:
            model(input_ids=ids, use_cache=False)

    return run


def peft_prepares(model: nn.Module, calibration: Calibration, rank: int) -> PeerTimes:
    """Time PEFT's preparation; what happens inside its callback is forward passes and covariances."""
    feed, inside = feeder(model, calibration), 0.0

    def run() -> None:
        nonlocal inside
        inside = harness.seconds(feed)

    total = harness.seconds(lambda: preprocess_corda(model, peft_config(rank), run_model=run))
    return PeerTimes(inside, total - inside)


def compare_subspaces(model: Any, calibration: Calibration, rank: int) -> list[dict[str, Any]]:
    """Kept subspace of one layer per shape under PEFT's switches: ours and PEFT's against float64 throughout.

    The reference accumulates in float64, damps as PEFT does, and takes the full float64 SVD of W C.
    """
    names = [name for name, _ in model.named_modules() if name.endswith(COMPARED)]
    config = peft_config(rank)
    config.target_modules = set(names)
    calib_cov_distribution(model, config, feeder(model, calibration), None, None)
    switches = {"normalisation": "signed_max", "divisor": "calls"}
    found = collect_covariances(model, calibration.batches(), names, **switches)  # type: ignore[arg-type]
    exact = collect_covariances(model, calibration.batches(), names, precision="float64", **switches)  # type: ignore[arg-type]
    rows = []
    for name in names:
        layer = model.get_submodule(name)
        start = time.perf_counter()
        eigens = collect_eigens_for_layer(layer, config)
        harness.synchronise()
        peer_seconds = time.perf_counter() - start
        del layer.covariance_matrix, layer.sample_count
        damped = conditioned(found[name].matrix, damping="always")
        result = decompose(layer.weight, damped.matrix, rank, "kpa", name=name)
        C = exact[name].matrix
        C.diagonal().add_(damped.damping * C.diagonal().mean())
        reference = smallest_left(layer.weight.detach().double() @ C, rank)
        rows.append(
            {
                "layer": name,
                "shape": " x ".join(map(str, layer.weight.shape)),
                "rank": rank,
                "error_ours": sine(result.B.double(), reference),
                "error_peft": sine(eigens.U_WC[:, -rank:].double().to(reference.device), reference),
                "ours_to_peft": sine(result.B.double(), orthonormal(eigens.U_WC[:, -rank:].to(reference.device))),
                "estimated_error": result.subspace.error,
                "route": result.subspace.route,
                "damping": damped.damping,
                "peft_seconds": peer_seconds,
            }
        )
        del eigens
    return rows


def smallest_left(M: Tensor, rank: int) -> Tensor:
    """Left singular vectors (out, rank) of the smallest singular values, by a full float64 SVD."""
    return torch.linalg.svd(M, full_matrices=False)[0][:, -rank:]


def orthonormal(columns: Tensor) -> Tensor:
    return torch.linalg.qr(columns.double())[0]


def sine(columns: Tensor, reference: Tensor) -> float:
    """Sine of the largest angle between the span of some columns and orthonormal ones."""
    Q = orthonormal(columns)
    return float(torch.linalg.matrix_norm(Q - reference @ (reference.T @ Q), 2))
