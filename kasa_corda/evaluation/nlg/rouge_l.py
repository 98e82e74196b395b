"""ROUGE-L of the COCO caption scripts: longest common subsequences of words, recall counting 1.2 times precision."""

from __future__ import annotations

from collections.abc import Sequence

from .measured import Measured
from .tokenise import treebank

BETA = 1.2


def rouge_l(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> Measured:
    """Mean F score; precision and recall are each the best over the references, as in the official script."""
    return Measured.mean([_f_score(p, accepted) for p, accepted in zip(predictions, references, strict=True)])


def _f_score(prediction: str, references: Sequence[str]) -> float:
    words = treebank(prediction)
    if not words:
        return 0.0
    common = [(longest_common(words, other), len(other)) for other in map(treebank, references) if other]
    precision = max((length / len(words) for length, _ in common), default=0.0)
    recall = max((length / total for length, total in common), default=0.0)
    if not precision:
        return 0.0
    return (1 + BETA**2) * precision * recall / (recall + BETA**2 * precision)


def longest_common(first: Sequence[str], second: Sequence[str]) -> int:
    """Length of the longest common subsequence, by bit-parallel rows (Hyyro 2004): one addition a word."""
    where: dict[str, int] = {}
    for position, word in enumerate(first):
        where[word] = where.get(word, 0) | 1 << position
    everything = (1 << len(first)) - 1
    row = everything
    for word in second:
        matched = row & where.get(word, 0)
        row = (row + matched | row - matched) & everything
    return len(first) - row.bit_count()
