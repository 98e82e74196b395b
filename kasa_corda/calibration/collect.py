"""Covariances of a whole model in one go: ``collect_covariances(model, batches, targets)``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..progress import Progress
from .covariance import BatchMask, Covariance, Moments
from .hooks import Recorder, resolve

Batch = Mapping[str, Tensor]
"""input_ids (batch, tokens) and what else the model takes; attention_mask leaves padding out of the covariance, and
calibration_mask (batch, tokens), which the model never sees, leaves out further tokens, such as prompts"""
NOT_INPUTS = ("calibration_mask", "labels")


def collect_covariances(
    model: nn.Module,
    batches: Iterable[Batch],
    targets: Iterable[str],
    *,
    normalisation: str = "none",
    divisor: str = "none",
    precision: str = "auto",
    streamed: bool = False,
    progress: Progress | None = None,
) -> dict[str, Covariance]:
    """Input covariance (in, in) of every target layer, by full layer name; layers reading one tensor share the object.

    ``targets`` are layer names that may lack leading components. ``streamed`` pushes all batches through one block
    at a time (``stream``); the result is the same. Switches: see ``Moments``. The model is returned as it came: no
    hooks, same training mode. KasaCordaError names a layer whose inputs are NaN, or that sees no token.
    """
    moments = Moments(normalisation, divisor, precision)
    if streamed:
        from .streaming import stream

        parts = stream(model, list(batches), targets, moments, progress=progress)
        return {name: covariance for part in parts for name, covariance in part.covariances.items()}
    recorder = Recorder(resolve(model, targets), moments)
    batches = list(batches)
    screen = progress or Progress(show=False)
    with evaluating(model), recorder.watching(), screen.phase("covariances", len(batches), "batch") as phase:
        for batch in batches:
            recorder.begin(mask_of(batch))
            model(**inputs_of(model, batch))
            phase.advance()
    return recorder.covariances()


def mask_of(batch: Batch) -> BatchMask:
    """The tokens of a batch that count."""
    ids = batch["input_ids"]
    valid = torch.ones(ids.shape, dtype=torch.bool)
    for name in ("attention_mask", "calibration_mask"):
        if name in batch:
            valid &= batch[name].bool().cpu()
    return BatchMask(valid)


def inputs_of(model: nn.Module, batch: Batch) -> dict[str, Any]:
    """The model's arguments on the device of its embeddings, with its key-value cache off.

    An attention mask without padding says nothing and is left out, for the sake of faster attention kernels.
    """
    device = next(model.parameters()).device
    ignored = (*NOT_INPUTS, "attention_mask") if _is_full(batch) else NOT_INPUTS
    arguments: dict[str, Any] = {name: t.to(device) for name, t in batch.items() if name not in ignored}
    if hasattr(getattr(model, "config", None), "use_cache"):
        arguments["use_cache"] = False
    return arguments


def _is_full(batch: Batch) -> bool:
    return "attention_mask" in batch and bool(batch["attention_mask"].all())


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; the modules' training flags are put back."""
    flags = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in flags:
            module.training = training
