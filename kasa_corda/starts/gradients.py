"""Mean gradients of a model's linear layers over a few batches, a bounded number of layers at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import KasaCordaError

AT_ONCE = 2**31
"""numbers in the gradients that are held together, in float32"""


def parts(layers: Mapping[str, Any], at_once: int = AT_ONCE) -> list[list[str]]:
    """Names of layers whose gradients are collected in one pass over the batches."""
    found: list[list[str]] = [[]]
    size = 0
    for name, layer in layers.items():
        if found[-1] and size + layer.weight.numel() > at_once:
            found.append([])
            size = 0
        found[-1].append(name)
        size += layer.weight.numel()
    return found


def mean_gradients(
    model: nn.Module, layers: Mapping[str, Any], batches: Sequence[Mapping[str, Tensor]], seed: int
) -> dict[str, Tensor]:
    """Gradient of the mean loss with respect to each layer's weight as it is stored, float32, averaged over batches.

    In training mode, as LoRA-GA's authors and PEFT do it; ``seed`` decides the dropout. A weight's gradient is freed as
    soon as it is added. KasaCordaError names a layer without gradient, or whose gradient is not finite.
    """
    totals = {name: torch.zeros_like(layer.weight, dtype=torch.float32) for name, layer in layers.items()}
    cuda = [totals[name].device for name in list(totals)[:1] if totals[name].is_cuda]
    with _only_these_train(model, layers), _adding(layers, totals) as added, torch.random.fork_rng(devices=cuda):
        torch.manual_seed(seed)
        for batch in batches:
            with torch.enable_grad():
                model(**batch).loss.backward()
    for name, total in totals.items():
        if not added[name]:
            raise KasaCordaError(f"layer {name} gets no gradient; leave it out of method.target_modules")
        if not torch.isfinite(total.sum()):
            raise KasaCordaError(f"the gradient of layer {name} is NaN or infinite; use model.dtype=float32")
        total /= len(batches)
    return totals


@contextmanager
def _adding(layers: Mapping[str, Any], totals: Mapping[str, Tensor]) -> Iterator[dict[str, int]]:
    """Add each gradient to its total as it comes, and count them."""
    added = dict.fromkeys(layers, 0)

    def hook(name: str) -> Any:
        def add(weight: Tensor) -> None:
            assert weight.grad is not None
            totals[name].add_(weight.grad)
            weight.grad = None
            added[name] += 1

        return add

    handles = [layer.weight.register_post_accumulate_grad_hook(hook(name)) for name, layer in layers.items()]
    try:
        yield added
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _only_these_train(model: nn.Module, layers: Mapping[str, Any]) -> Iterator[None]:
    """Training mode, gradients for these weights alone; both are put back."""
    before = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    modes = [(module, module.training) for module in model.modules()]
    model.requires_grad_(False).train()
    for layer in layers.values():
        layer.weight.requires_grad_(True)
    try:
        yield
    finally:
        for parameter, required in before:
            parameter.requires_grad_(required)
        for module, training in modes:
            module.training = training
