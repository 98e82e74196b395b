"""Which token comes next: the most likely one, or one drawn by a random number that belongs to the row alone."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ._batching import Request
from .decoding import Decoding


def random_numbers(requests: Sequence[Request], decoding: Decoding) -> Tensor | None:
    """(rows, max_new_tokens) uniform numbers in [0, 1), float64; None where nothing is drawn.

    A row's numbers depend on the seed, its example and its sample, never on what else is generated.
    """
    if decoding.temperature is None:
        return None
    rows = [np.random.default_rng(row_seed(request, decoding)).random(decoding.max_new_tokens) for request in requests]
    return torch.from_numpy(np.stack(rows))


def row_seed(request: Request, decoding: Decoding) -> int:
    """A number below 2^63 for one sample of one example."""
    text = f"{decoding.seed}/{request.sample}/{request.key}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def choose(logits: Tensor, decoding: Decoding, drawn: Tensor | None) -> Tensor:
    """Next tokens (rows,) for logits (rows, vocabulary); ``drawn`` (rows,) are uniform numbers where one samples.

    Sampling inverts the cumulative distribution of softmax(logits / temperature), cut to the most likely tokens that
    hold ``top_p`` of it.
    """
    if decoding.temperature is None or drawn is None:
        return logits.argmax(-1)
    chances = (logits.float() / decoding.temperature).softmax(-1).double()
    order = None
    if decoding.top_p < 1:
        chances, order = chances.sort(dim=-1, descending=True, stable=True)
        chances = chances * (chances.cumsum(-1) - chances < decoding.top_p)
    cumulative = chances.cumsum(-1)
    target = (drawn * cumulative[:, -1])[:, None]
    found = torch.searchsorted(cumulative, target, right=True).clamp(max=logits.shape[-1] - 1)
    return (found if order is None else order.gather(-1, found))[:, 0]
