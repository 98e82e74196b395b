"""Which examples form which batch, and how a batch becomes tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

MEGABATCH = 50
"""batches sorted by length together when grouping"""
IGNORED = -100
"""label of a token that the loss leaves out"""


def epoch_batches(lengths: Sequence[int], batch_size: int, seed: int, epoch: int, *, group: bool) -> list[list[int]]:
    """All examples once, in batches of ``batch_size`` (the last may be smaller), drawn from (seed, epoch) alone.

    With ``group``, examples of similar length share a batch: the random order is cut into chunks of
    MEGABATCH batches, each sorted by length, and the batches are shuffled again.
    """
    generator = np.random.default_rng([seed, epoch])
    order = generator.permutation(len(lengths))
    if group:
        size = MEGABATCH * batch_size
        measured = np.asarray(lengths)
        chunks = [order[start : start + size] for start in range(0, len(order), size)]
        order = np.concatenate([chunk[np.argsort(-measured[chunk], kind="stable")] for chunk in chunks])
    batches = [order[start : start + batch_size].tolist() for start in range(0, len(order), batch_size)]
    if group:
        generator.shuffle(batches)
    return batches


def split_batch(batch: Sequence[int], parts: int) -> list[list[int]]:
    """``parts`` contiguous pieces of nearly equal size; some are empty if the batch is smaller than that."""
    return [piece.tolist() for piece in np.array_split(np.asarray(batch, dtype=int), parts)]


def loss_weight(example: dict[str, Any]) -> int:
    """What a batch's mean loss counts of an example: its supervised tokens, or 1 where the label is of the whole."""
    labels = example.get("labels")
    return sum(label != IGNORED for label in labels) if isinstance(labels, list) else 1


class Collator:
    """Pads encoded examples to the longest of their batch."""

    def __init__(self, tokenizer: Any) -> None:
        self.left = tokenizer.padding_side == "left"
        self.fill = {
            "input_ids": tokenizer.pad_token_id,
            "token_type_ids": getattr(tokenizer, "pad_token_type_id", 0),
            "attention_mask": 0,
            "labels": IGNORED,
        }

    def __call__(self, examples: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Tensors (batch, longest) for token fields and (batch,) for the labels of whole texts."""
        longest = max(len(example["input_ids"]) for example in examples)
        batch = {}
        for name in examples[0]:
            values = [example[name] for example in examples]
            if isinstance(values[0], list):
                values = [self._pad(value, longest, self.fill[name]) for value in values]
            batch[name] = torch.tensor(values)
        return batch

    def logits(self, model: torch.nn.Module, examples: Sequence[dict[str, Any]]) -> torch.Tensor:
        """The model's float32 logits (batch, num_labels) for encoded examples, labels left out."""
        batch = self([{name: value for name, value in row.items() if name != "labels"} for row in examples])
        device = next(model.parameters()).device
        return model(**{name: tensor.to(device) for name, tensor in batch.items()}).logits.float()

    def _pad(self, values: list[int], longest: int, fill: int) -> list[int]:
        missing = [fill] * (longest - len(values))
        return missing + values if self.left else values + missing


def training_batches(
    encoded: Sequence[dict[str, Any]], tokenizer: Any, seed: int, device: torch.device
) -> Callable[[int, int], Iterator[dict[str, torch.Tensor]]]:
    """``batches(count, size)``: the first batches of an order drawn from the seed, going round if the set is small."""

    def batches(count: int, size: int) -> Iterator[dict[str, torch.Tensor]]:
        order = np.random.default_rng([seed, 2]).permutation(len(encoded))
        collate = Collator(tokenizer)
        for index in range(count):
            chosen = [encoded[order[i % len(order)]] for i in range(index * size, (index + 1) * size)]
            yield {name: value.to(device) for name, value in collate(chosen).items()}

    return batches
