"""KaSA's auxiliary loss: L2 on the singular values, orthogonality of A and B (paper Eq. 9-12)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor

VARIANTS = ("peft", "authors")


def kasa_regulariser(
    adapters: Sequence[tuple[Tensor, Tensor, Tensor]], beta: float, gamma: float, variant: str = "peft"
) -> Tensor:
    """beta * sum sigma^2 + gamma * (||A A' - I|| + ||B' B - I||), a float32 scalar.

    adapters: per layer A (r, in), sigma (r,), B (out, r).
    variant ``peft``: r x r Grams, summed over layers (huggingface/peft 0.21).
    variant ``authors``: in x in and out x out Grams, averaged over layers (juyongjiang/KaSA, main.py).
    The large Gram is never formed: ||A' A - I_in||^2 = ||A A' - I_r||^2 + in - r exactly.
    """
    if variant not in VARIANTS:
        raise ValueError(f"variant {variant!r} is not one of {VARIANTS}")
    if not adapters:
        raise ValueError("no KaSA adapter given")
    sigma = torch.cat([sigma.flatten() for _, sigma, _ in adapters]).float()
    rows = [A for A, _, _ in adapters] + [B.transpose(0, 1) for _, _, B in adapters]
    total = beta * sigma.square().sum() + gamma * _orthogonality(rows, large_gram=variant == "authors")
    return total / len(adapters) if variant == "authors" else total


def _orthogonality(matrices: Sequence[Tensor], *, large_gram: bool) -> Tensor:
    """Sum of ||M M' - I||_F over matrices M (r, n); with ``large_gram`` of ||M' M - I||_F."""
    by_shape: dict[torch.Size, list[Tensor]] = defaultdict(list)
    for matrix in matrices:
        by_shape[matrix.shape].append(matrix)
    total = matrices[0].new_zeros((), dtype=torch.float32)
    with torch.autocast(matrices[0].device.type, enabled=False):
        for (r, n), group in by_shape.items():
            stacked = torch.stack(group).float()  # (layers, r, n)
            gram = stacked @ stacked.transpose(1, 2)
            squared = (gram - torch.eye(r, device=gram.device)).square().sum(dim=(1, 2))
            total = total + (squared + (n - r if large_gram else 0)).clamp_min(1e-24).sqrt().sum()
    return total
