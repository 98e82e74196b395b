"""Greedy texts of a list of prompts, in one call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ._batching import BatchSize, Request
from ._generate import generate
from ._stopping import Stopping
from .decoding import Decoding

__all__ = ["Stopping", "greedy"]


def greedy(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Sequence[int]],
    stopping: Stopping,
    finished: Callable[[int], None] = lambda count: None,
) -> list[str]:
    """The most likely continuation of every prompt (token ids), as text without special tokens.

    ``finished`` is told whenever that many rows are done. Call it in evaluation mode. Which prompts share a batch
    changes nothing beyond the rounding of the model's arithmetic.
    """
    requests = [Request(str(i), list(prompt)) for i, prompt in enumerate(prompts)]
    decoding = Decoding(stopping.max_new_tokens, stopping.strings)
    return generate(model, tokenizer, requests, decoding, BatchSize(len(prompts)), lambda *_: finished(1))
