"""Texts for prompts, by whatever the decoding and the model ask for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ._batching import BatchSize, Finished, Request
from .decoding import Decoding


def generate(
    model: Any,
    tokenizer: Any,
    requests: Sequence[Request],
    decoding: Decoding,
    size: BatchSize,
    finished: Finished = lambda request, text, tokens: None,
) -> list[str]:
    """The text of every request, without special tokens, up to the first stop string.

    ``size`` is halved where the GPU's memory runs out; nothing that was generated is generated again. Call it in
    evaluation mode. Which requests share a batch changes nothing beyond the rounding of the model's arithmetic.
    """
    from ._beams import generate_beams
    from ._engine import Engine
    from ._padded import generate_padded
    from ._slots import slots_fit

    found: dict[tuple[str, int], str] = {}

    def tell(request: Request, text: str, tokens: int) -> None:
        found[request.key, request.sample] = text
        finished(request, text, tokens)

    if not requests:
        return []
    longest = max(len(request.ids) for request in requests) + decoding.max_new_tokens + virtual_tokens(model)
    if decoding.num_beams > 1:
        generate_beams(model, tokenizer, requests, decoding, size, tell)
    elif slots_fit(model, longest):
        Engine(model, tokenizer, decoding, size, tell).run(requests)
    else:
        generate_padded(model, tokenizer, requests, decoding, size, tell)
    return [found[request.key, request.sample] for request in requests]


def virtual_tokens(model: Any) -> int:
    """Positions that a PEFT model puts before every prompt."""
    return int(getattr(getattr(model, "active_peft_config", None), "num_virtual_tokens", None) or 0)
