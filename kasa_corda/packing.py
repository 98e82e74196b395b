"""Several examples in one row, kept apart: positions begin anew with each, and attention stays inside it.

transformers finds the examples of a row by their positions, for every attention kernel, where neither a mask nor a
cache is given. ``check_isolation`` asks the model itself whether that holds.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import torch

from .batches import IGNORED
from .errors import KasaCordaError

SAMPLE = 16
"""tokens of each of the two texts that ``check_isolation`` puts into one row"""
TOLERANCE = 1e-4
"""difference of logits that rounding may make where nothing else changed"""


def packed_rows(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Indices by row, at most ``capacity`` tokens in each: every index once, longest first into the first row that has
    room (a longer one has a row of its own)."""
    rows: list[list[int]] = []
    room: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        row = next((r for r, free in enumerate(room) if free >= lengths[index]), len(rows))
        if row == len(rows):
            rows.append([])
            room.append(capacity)
        rows[row].append(index)
        room[row] -= lengths[index]
    return rows


class PackingCollator:
    """Packs encoded examples (input_ids and labels) into rows of at most ``capacity`` tokens."""

    def __init__(self, tokenizer: Any, capacity: int) -> None:
        self.pad, self.capacity = tokenizer.pad_token_id, capacity

    def __call__(self, examples: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """input_ids, labels and position_ids, each (rows, longest row); padding is an example without labels."""
        rows = packed_rows([len(example["input_ids"]) for example in examples], self.capacity)
        tokens = [[token for i in row for token in examples[i]["input_ids"]] for row in rows]
        labels = [[label for i in row for label in _labels(examples[i])] for row in rows]
        positions = [[p for i in row for p in range(len(examples[i]["input_ids"]))] for row in rows]
        longest = max(map(len, tokens))
        missing = [longest - len(row) for row in tokens]
        return {
            "input_ids": torch.tensor([row + [self.pad] * m for row, m in zip(tokens, missing, strict=True)]),
            "labels": torch.tensor([row + [IGNORED] * m for row, m in zip(labels, missing, strict=True)]),
            "position_ids": torch.tensor([row + list(range(m)) for row, m in zip(positions, missing, strict=True)]),
        }


def _labels(example: dict[str, Any]) -> list[int]:
    """Labels without the first: in a row the token before it is of another example."""
    return [IGNORED, *example["labels"][1:]]


def packing_collator(model: Any, tokenizer: Any, capacity: int) -> PackingCollator:
    """The collator for a model that keeps examples apart (checked here); flash attention wants all in one row."""
    check_isolation(model, model.config.vocab_size)
    one_row = "flash" in str(model.config._attn_implementation)
    return PackingCollator(tokenizer, sys.maxsize if one_row else capacity)


def check_isolation(model: torch.nn.Module, vocabulary: int) -> None:
    """KasaCordaError if a text changes what the model makes of the text behind it in the same row."""
    device = next(model.parameters()).device
    first, second = (torch.arange(SAMPLE) % vocabulary for _ in range(2))
    rows = [torch.cat([first, second]), torch.cat([(first + vocabulary // 2) % vocabulary, second])]
    positions = torch.arange(SAMPLE).repeat(2)[None].to(device)
    training = model.training
    model.eval()
    with torch.no_grad():
        alone, other = (
            model(input_ids=row[None].to(device), position_ids=positions, use_cache=False).logits[0, SAMPLE:].float()
            for row in rows
        )
    model.train(training)
    if not torch.allclose(alone, other, rtol=0, atol=TOLERANCE):
        raise KasaCordaError(
            "trainer.packing=true: this model does not keep the examples of a row apart (its attention or its adapter"
            " looks across them); use trainer.packing=false"
        )
