"""Generation in batches of fixed members, for models whose cache is more than keys and values of all tokens (sliding
windows, recurrent states): left-padded, with the model's own cache; finished rows are dropped on the way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ..models.key_values import NAME, cache_in
from ._batching import BatchSize, Finished, Request, left_padded, longest_first, memory_watched
from ._choice import choose, random_numbers
from ._stopping import Stopping, end_tokens, text_of
from .decoding import Decoding

SHRINK = 0.75
"""the batch is cut down to its unfinished rows once they are at most this share of it"""


def generate_padded(
    model: Any, tokenizer: Any, requests: Sequence[Request], decoding: Decoding, size: BatchSize, finished: Finished
) -> None:
    """As the engine. Where memory runs out, texts of the batch at hand that are not finished start again."""
    left = longest_first(requests)
    done: set[tuple[str, int]] = set()

    def tell(request: Request, text: str, tokens: int) -> None:
        done.add((request.key, request.sample))
        finished(request, text, tokens)

    while left:
        with memory_watched(size):
            _batch(model, tokenizer, left[: size.rows], decoding, tell)
        left = [request for request in left if (request.key, request.sample) not in done]


def _batch(model: Any, tokenizer: Any, requests: Sequence[Request], decoding: Decoding, finished: Finished) -> None:
    device = next(model.parameters()).device
    ends, stopping = end_tokens(model, tokenizer), Stopping(decoding.max_new_tokens, decoding.stop)
    numbers = random_numbers(requests, decoding)
    padded = left_padded([request.ids for request in requests], tokenizer.pad_token_id, device)
    ids, mask, position = padded.ids, padded.mask, padded.position
    answers: list[list[int]] = [[] for _ in requests]
    rows = list(range(len(requests)))
    """request that each row of the batch continues"""
    unfinished = set(rows)
    cache = None
    with torch.inference_mode():
        for step in range(decoding.max_new_tokens):
            out = model(
                input_ids=ids,
                attention_mask=mask,
                position_ids=position,
                use_cache=True,
                logits_to_keep=1,
                **{NAME: cache},
            )
            cache = cache_in(out)
            drawn = None if numbers is None else numbers[rows, step].to(device)
            chosen = choose(out.logits[:, -1], decoding, drawn)
            for row, token in zip(rows, chosen.tolist(), strict=True):
                if row not in unfinished:
                    continue
                answer = answers[row]
                if token not in ends:
                    answer.append(token)
                if token in ends or stopping.over(tokenizer, answer):
                    unfinished.remove(row)
                    finished(requests[row], stopping.cut(text_of(tokenizer, answer)), len(answer))
            if not unfinished:
                return
            ids, position = chosen[:, None], position[:, -1:] + 1
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], 1)
            if len(unfinished) <= SHRINK * len(rows):
                kept = torch.tensor([i for i, row in enumerate(rows) if row in unfinished], device=device)
                cache.batch_select_indices(kept)
                ids, position, mask = ids[kept], position[kept], mask[kept]
                rows = [row for row in rows if row in unfinished]
