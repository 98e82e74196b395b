"""Perplexity of a language model on running text, in windows that do not overlap."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import DataError
from ..progress import Progress

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Perplexity:
    """exp(nll) and what it was measured on."""

    value: float
    nll: float
    """mean negative log-likelihood per predicted token, in nats"""
    tokens: int
    """predicted tokens: all but the first of each window"""
    rows: list[tuple[float, int]]
    """per window, in the order of the text: summed negative log-likelihood in nats, predicted tokens"""

    @property
    def windows(self) -> int:
        return len(self.rows)

    @property
    def error(self) -> float:
        """Standard error of ``nll`` over the windows; of exp(nll) and exp(-nll) the relative one."""
        from .errors import of_ratio

        return of_ratio([nll for nll, _ in self.rows], [tokens for _, tokens in self.rows])


def perplexity(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    window: int = 2048,
    *,
    separator: str = "\n\n",
    whole_windows: bool = False,
    batch_size: int = 1,
    progress: Progress | None = None,
) -> Perplexity:
    """Perplexity of the joined texts, cut into windows of ``window`` tokens that each start without context.

    Every predicted token counts the same. The papers' protocol (CorDA Figure 2: texts joined by blank lines, 2048
    tokens) also drops the last, shorter window: ``whole_windows``. DataError if there is no token to predict.
    """
    import torch

    from ..batches import Collator
    from ._likelihood import bounded_batches, scored_row, summed_nll

    ids = tokenizer(separator.join(texts), verbose=False)["input_ids"]
    pieces = [ids[start : start + window] for start in range(0, len(ids), window)]
    pieces = [piece for piece in pieces if len(piece) == window or (len(piece) > 1 and not whole_windows)]
    if not pieces or window < 2:
        raise DataError(f"a perplexity in windows of {window} tokens can't be had from a text of {len(ids)} tokens")
    collate = Collator(tokenizer)
    batches = bounded_batches([len(piece) for piece in pieces], batch_size, tokens=batch_size * window)
    was_training = model.training
    model.eval()
    rows: dict[int, tuple[float, int]] = {}
    screen = progress or Progress(show=False)
    with torch.inference_mode(), screen.phase("perplexity", len(batches), "batch") as phase:
        for batch in batches:
            sums, counts = summed_nll(model, collate([scored_row(pieces[i], 1, len(pieces[i])) for i in batch]))
            rows |= dict(zip(batch, zip(sums.tolist(), counts.tolist(), strict=True), strict=True))
            phase.advance()
    model.train(was_training)
    tokens = sum(count for _, count in rows.values())
    nll = sum(summed for summed, _ in rows.values()) / tokens
    return Perplexity(math.exp(nll) if nll < 700 else math.inf, nll, tokens, [rows[i] for i in range(len(pieces))])
