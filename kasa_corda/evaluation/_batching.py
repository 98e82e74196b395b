"""What is to be generated, and how many rows fit into memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch


@dataclass(frozen=True)
class Request:
    """One text to generate."""

    key: str
    """names the example; with ``sample`` it chooses the random numbers"""
    ids: list[int]
    """the prompt's tokens"""
    sample: int = 0


Finished = Callable[[Request, str, int], None]
"""told of every finished text and its number of tokens, as soon as it is"""


@dataclass
class BatchSize:
    """Rows generated together: as asked for, halved whenever memory runs out, and remembered."""

    rows: int
    asked: int = field(init=False)

    def __post_init__(self) -> None:
        self.asked = self.rows

    def halve(self) -> None:
        self.rows = max(1, self.rows // 2)

    def notes(self) -> list[str]:
        if self.rows == self.asked:
            return []
        return [
            f"evaluator.batch_size={self.asked} did not fit into memory; answers were generated {self.rows} at a time"
        ]


@dataclass
class Trouble:
    out_of_memory: bool = False


@contextmanager
def memory_watched(size: BatchSize) -> Iterator[Trouble]:
    """Halves ``size`` where the GPU's memory runs out in the block, and says so; an error if it was at 1 row already.

    The caller goes on outside of the block: the exception, and with it every tensor of the frames it passed, is gone
    there.
    """
    trouble = Trouble()
    try:
        yield trouble
    except torch.cuda.OutOfMemoryError:
        if size.rows == 1:
            raise
        trouble.out_of_memory = True
    if trouble.out_of_memory:
        size.halve()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def longest_first(requests: Sequence[Request]) -> list[Request]:
    """Prompts of similar length together, the samples of one prompt side by side."""
    return sorted(requests, key=lambda request: -len(request.ids))


@dataclass
class Padded:
    """Prompts padded on the left to one length."""

    ids: torch.Tensor
    """(rows, tokens)"""
    mask: torch.Tensor
    """(rows, tokens), 0 on padding"""
    position: torch.Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.position = (self.mask.cumsum(-1) - 1).clamp(min=0)


def left_padded(prompts: Sequence[Sequence[int]], pad: int, device: Any) -> Padded:
    longest = max(map(len, prompts))
    return Padded(
        torch.tensor([[pad] * (longest - len(p)) + list(p) for p in prompts], device=device),
        torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts], device=device),
    )
