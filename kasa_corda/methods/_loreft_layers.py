"""LoReFT's modules: the edit of one block's output, and which positions of a batch are edited."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from ..batches import IGNORED
from ..models.key_values import cache_in


class Positions:
    """The positions of the batch at hand: the first ``first`` and last ``last`` tokens of every prompt."""

    def __init__(self, first: int, last: int) -> None:
        self.first, self.last = first, last
        self.edited: Tensor | None = None
        """(batch, tokens) bool; None while nothing is edited: generation goes on from a cache"""

    def watch(self, model: Any) -> None:
        """Find the positions anew whenever the model is called."""
        model.register_forward_pre_hook(self._before, with_kwargs=True)
        model.edits_prompts = True

    def _before(self, model: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """``prompt_labels``: labels that only say where the prompt ends; the model doesn't see them."""
        labels = named.get("prompt_labels", named.get("labels"))
        past = cache_in(named)
        if past is not None and past.get_seq_length() > 0:
            self.edited = None
        else:
            tokens = given[0] if given else named.get("input_ids")
            tokens = named["inputs_embeds"][..., 0] if tokens is None else tokens
            mask = named.get("attention_mask")
            self.edited = self.of(torch.ones_like(tokens) if mask is None else mask, labels)
        return given, {name: value for name, value in named.items() if name != "prompt_labels"}

    def of(self, mask: Tensor, labels: Tensor | None = None) -> Tensor:
        """Which positions (batch, tokens) are edited, given the attention mask and, where there are any, the tokens'
        labels."""
        attended = mask.bool()
        prompt = attended
        if labels is not None and labels.ndim == 2:
            before = attended & ((labels != IGNORED).cumsum(1) == 0)
            # the first token of a text is never supervised: alone it is no prompt
            prompt = torch.where(before.sum(1, keepdim=True) > 1, before, attended)
        index, length = prompt.cumsum(1) - 1, prompt.sum(1, keepdim=True)
        return prompt & ((index < self.first) | (index >= length - self.last))


class Intervention(nn.Module):
    """A block whose output h becomes h + R^T (W h + b - R h) where ``positions`` says so."""

    wraps = "base"

    def __init__(
        self, base: nn.Module, positions: Positions, width: int, rank: int, dropout: float, **placement: Any
    ) -> None:
        super().__init__()
        self.base, self.positions = base, positions
        self.source = nn.Linear(width, rank, **placement)
        self.rows = nn.Parameter(torch.empty(rank, width, **placement))
        """(r, width), of which R is the orthonormalisation"""
        if not self.rows.is_meta:
            nn.init.orthogonal_(self.rows)
        self.dropout = nn.Dropout(dropout)

    def forward(self, *inputs: Any, **named: Any) -> Any:
        given = self.base(*inputs, **named)
        where = self.positions.edited
        if where is None:
            return given
        h = given[0] if isinstance(given, tuple) else given
        edited = torch.where(where.to(h.device)[..., None], self.dropout(self.edit(h)), h)
        return (edited, *given[1:]) if isinstance(given, tuple) else edited

    def rotation(self) -> Tensor:
        """R (r, width): the rows made orthonormal one after the other, in float64.

        Gram-Schmidt by a Cholesky factor of their Gram matrix, differentiable. torch's parametrisation isn't used: its
        Householder form keeps signs among the trained numbers, where weight decay turns them to 0, and R with them;
        with trivialisation it needs a (width, width) buffer per block.
        """
        rows = self.rows.double()
        factor, _ = torch.linalg.cholesky_ex(rows @ rows.T)  # (r, r)
        return torch.linalg.solve_triangular(factor, rows, upper=False).to(self.rows.dtype)

    def edit(self, h: Tensor) -> Tensor:
        """h (batch, tokens, width) with all positions edited."""
        R = self.rotation()
        change = linear(h.to(R.dtype), self.source.weight - R, self.source.bias) @ R
        return h + change.to(h.dtype)
