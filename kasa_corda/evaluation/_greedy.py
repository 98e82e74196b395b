"""Greedy generation: one batch, left-padded, with a key/value cache; finished rows are dropped on the way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from ..models.key_values import NAME, cache_in

SHRINK = 0.75
"""the batch is cut down to its unfinished rows once they are at most this share of it"""


@dataclass(frozen=True)
class Stopping:
    """When a row is finished. The stop string is not part of its text; end tokens always stop."""

    max_new_tokens: int
    strings: list[str] = field(default_factory=list)

    def cut(self, text: str) -> str:
        """The text before the first stop string."""
        return text[: min((at for at in map(text.find, self.strings) if at >= 0), default=len(text))]

    @property
    def reach(self) -> int:
        """Tokens at the end of a text that surely hold a stop string which the last token completes."""
        return max(map(len, self.strings), default=0) + 1


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
    device = next(model.parameters()).device
    ends = end_tokens(model, tokenizer)
    longest = max(map(len, prompts))
    ids = torch.tensor([[tokenizer.pad_token_id] * (longest - len(p)) + list(p) for p in prompts], device=device)
    mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts], device=device)
    position = (mask.cumsum(-1) - 1).clamp(min=0)
    answers: list[list[int]] = [[] for _ in prompts]
    alive = list(range(len(prompts)))
    rows = alive
    """prompt that each row of the batch continues"""
    cache = None
    with torch.inference_mode():
        for _ in range(stopping.max_new_tokens):
            out = model(
                input_ids=ids,
                attention_mask=mask,
                position_ids=position,
                use_cache=True,
                logits_to_keep=1,
                **{NAME: cache},
            )
            cache = cache_in(out)
            chosen = out.logits[:, -1].argmax(-1)
            unfinished = set(alive)
            for row, token in zip(rows, chosen.tolist(), strict=True):
                if row in unfinished and _ends(answers[row], token, ends, stopping, tokenizer):
                    unfinished.remove(row)
            finished(len(alive) - len(unfinished))
            alive = [row for row in rows if row in unfinished]
            if not alive:
                break
            ids, position = chosen[:, None], position[:, -1:] + 1
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], 1)
            if len(alive) <= SHRINK * len(rows):
                kept = torch.tensor([i for i, row in enumerate(rows) if row in unfinished], device=device)
                cache.batch_select_indices(kept)
                ids, position, mask, rows = ids[kept], position[kept], mask[kept], alive
    finished(len(alive))
    return [stopping.cut(_text(tokenizer, answer)) for answer in answers]


def _ends(answer: list[int], token: int, ends: set[int], stopping: Stopping, tokenizer: Any) -> bool:
    """Add ``token`` to an answer unless it is an end token; whether the answer is finished now."""
    if token in ends:
        return True
    answer.append(token)
    tail = _text(tokenizer, answer[-stopping.reach :]) if stopping.strings else ""
    return any(text in tail for text in stopping.strings)


def _text(tokenizer: Any, ids: list[int]) -> str:
    return tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)


def end_tokens(model: Any, tokenizer: Any) -> set[int]:
    """Every token that ends a text: the tokenizer's, and those of the model's generation settings."""
    told = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    listed = told if isinstance(told, list) else [told]
    return {token for token in (tokenizer.eos_token_id, *listed) if token is not None}
