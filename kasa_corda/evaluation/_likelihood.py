"""Teacher-forced scores: how likely a language model finds given tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..batches import IGNORED

TOKENS = 4096
"""padded tokens per forward pass: bounds the logits, which are tokens x vocabulary"""


@dataclass(frozen=True)
class Continuation:
    """What a model thinks of a given text after a prompt."""

    nll: float
    """summed negative log-likelihood in nats"""
    tokens: int
    greedy: bool
    """whether every token of it is the most likely one"""


def summed_nll(model: torch.nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Per row of a right-padded batch: summed negative log-likelihood in nats, and the number of its labels.

    ``batch`` holds input_ids, attention_mask and labels, each (batch, tokens); labels of IGNORED are left out, the
    label at a position is predicted from all before it. Returns float64 and int64 tensors (batch,).
    """
    sums, counts, _ = scored_labels(model, batch)
    return sums, counts


def scored_labels(model: torch.nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """As ``summed_nll``, and per row (bool) whether every label is the most likely token."""
    device = next(model.parameters()).device
    inputs = {name: batch[name].to(device) for name in ("input_ids", "attention_mask")}
    labels = batch["labels"].to(device)
    if getattr(model, "edits_prompts", False):  # LoReFT: not the response's tokens
        inputs["prompt_labels"] = labels
    following = torch.full_like(labels, IGNORED)
    following[:, :-1] = labels[:, 1:]
    counted = following != IGNORED
    logits = model(**inputs, use_cache=False).logits
    losses = torch.nn.functional.cross_entropy(logits[counted].float(), following[counted], reduction="none")
    rows = counted.nonzero()[:, 0]
    sums = torch.zeros(len(labels), dtype=torch.float64, device=device).index_add_(0, rows, losses.double())
    missed = (logits[counted].argmax(-1) != following[counted]).long()
    misses = torch.zeros(len(labels), dtype=torch.int64, device=device).index_add_(0, rows, missed)
    return sums, counted.sum(1), misses == 0


def bounded_batches(lengths: Sequence[int], batch_size: int, tokens: int = TOKENS) -> list[list[int]]:
    """All indices, longest first, in batches of at most ``batch_size`` rows and ``tokens`` padded tokens."""
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    batches: list[list[int]] = []
    while order:
        size = max(1, min(batch_size, tokens // max(1, lengths[order[0]])))
        batches.append(order[:size])
        order = order[size:]
    return batches


def scored_row(ids: list[int], start: int, end: int) -> dict[str, Any]:
    """Token row whose labels are the ids from ``start`` up to ``end``."""
    labels = [IGNORED] * start + ids[start:end] + [IGNORED] * (len(ids) - end)
    return {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": labels}
