"""Beam search by transformers' ``generate``: batches of fixed members, left-padded."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from ._batching import BatchSize, Finished, Request, left_padded, longest_first, memory_watched
from ._stopping import Stopping, end_tokens, text_of
from .decoding import Decoding


def generate_beams(
    model: Any, tokenizer: Any, requests: Sequence[Request], decoding: Decoding, size: BatchSize, finished: Finished
) -> None:
    """The best continuation of every request; ``size`` counts requests, each of which has ``num_beams`` rows.

    A beam ends at an end token or a stop string, which then counts for its score.
    """
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    left = longest_first(requests)
    with _alone(inner, model, settings(model, tokenizer, decoding)):
        while left:
            batch = left[: size.rows]
            with memory_watched(size) as trouble:
                texts = _batch(inner, tokenizer, batch, decoding)
            if not trouble.out_of_memory:
                for request, (text, tokens) in zip(batch, texts, strict=True):
                    finished(request, text, tokens)
                left = left[len(batch) :]


def settings(model: Any, tokenizer: Any, decoding: Decoding) -> Any:
    """transformers' own defaults, and of the model's stored settings nothing but the end tokens."""
    from transformers import GenerationConfig

    return GenerationConfig(
        max_new_tokens=decoding.max_new_tokens,
        num_beams=decoding.num_beams,
        length_penalty=decoding.length_penalty,
        no_repeat_ngram_size=decoding.no_repeat_ngram_size,
        stop_strings=decoding.stop or None,
        do_sample=False,
        eos_token_id=sorted(end_tokens(model, tokenizer)),
        pad_token_id=tokenizer.pad_token_id,
    )


def _batch(inner: Any, tokenizer: Any, requests: Sequence[Request], decoding: Decoding) -> list[tuple[str, int]]:
    padded = left_padded([r.ids for r in requests], tokenizer.pad_token_id, next(inner.parameters()).device)
    with torch.inference_mode():
        extended = inner.generate(input_ids=padded.ids, attention_mask=padded.mask, tokenizer=tokenizer)
    ends, stopping = end_tokens(inner, tokenizer), Stopping(decoding.max_new_tokens, decoding.stop)
    answers = []
    for row in extended[:, padded.ids.shape[1] :].tolist():
        length = next((i for i, token in enumerate(row) if token in ends), len(row))
        answers.append((stopping.cut(text_of(tokenizer, row[:length])), length))
    return answers


@contextmanager
def _alone(inner: Any, model: Any, config: Any) -> Iterator[None]:
    """``inner.generate`` by ``config`` alone, and through the forward pass of ``model``, which may add to it."""
    before, plain = inner.generation_config, inner.forward

    @functools.wraps(plain)
    def forward(*arguments: Any, **named: Any) -> Any:
        inner.forward = plain
        try:
            return model(*arguments, **named)
        finally:
            inner.forward = forward

    inner.generation_config = config
    if model is not inner:
        inner.forward = forward
    try:
        yield
    finally:
        inner.generation_config = before
        if model is not inner:
            del inner.forward
