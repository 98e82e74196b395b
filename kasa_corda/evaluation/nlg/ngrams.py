"""N-grams of a text, counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

Ngram = tuple[str, ...]


def counted(words: Sequence[str], order: int) -> Counter[Ngram]:
    """How often every n-gram of 1 to ``order`` words occurs."""
    return Counter(tuple(words[i : i + n]) for n in range(1, order + 1) for i in range(len(words) - n + 1))


def most(counts: Iterable[Counter[Ngram]]) -> Counter[Ngram]:
    """The highest count of every n-gram in any of several texts."""
    highest: Counter[Ngram] = Counter()
    for one in counts:
        highest |= one
    return highest
