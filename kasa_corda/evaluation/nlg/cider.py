"""CIDEr of the COCO caption scripts (Vedantam et al. 2015): cosine of tf-idf n-gram vectors, in their clipped form.

What those scripts call CIDEr clips the prediction's counts at the reference's and multiplies by a Gaussian of the
difference in length, but does not stem words: it is CIDEr-D but for the stemming.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from .measured import Measured
from .ngrams import Ngram, counted
from .tokenise import treebank

ORDER = 4
SIGMA = 6.0
"""width of the length penalty in bigrams"""


@dataclass(frozen=True)
class Vector:
    """The weighted n-grams of one text."""

    weights: dict[Ngram, float]
    norms: list[float]
    """of the n-grams of each length"""
    length: int
    """bigrams"""


def cider(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> Measured:
    """Mean over texts of 10 times the mean similarity to the references; no fraction. One text alone scores 0."""
    counts = [[counted(treebank(reference), ORDER) for reference in accepted] for accepted in references]
    documents: Counter[Ngram] = Counter()
    for accepted in counts:
        documents.update({ngram for one in accepted for ngram in one})
    rarity = {ngram: math.log(len(counts)) - math.log(number) for ngram, number in documents.items()}
    unseen = math.log(len(counts))
    values = []
    for prediction, accepted in zip(predictions, counts, strict=True):
        ours = _vector(counted(treebank(prediction), ORDER), rarity, unseen)
        theirs = [_vector(one, rarity, unseen) for one in accepted]
        values.append(10 * sum(_similarity(ours, vector) for vector in theirs) / len(theirs))
    return Measured.mean(values)


def _vector(counts: Counter[Ngram], rarity: dict[Ngram, float], unseen: float) -> Vector:
    weights = {ngram: count * rarity.get(ngram, unseen) for ngram, count in counts.items()}
    squares = [0.0] * ORDER
    for ngram, weight in weights.items():
        squares[len(ngram) - 1] += weight * weight
    return Vector(weights, [math.sqrt(s) for s in squares], sum(c for ngram, c in counts.items() if len(ngram) == 2))


def _similarity(ours: Vector, theirs: Vector) -> float:
    """Mean over n-gram lengths of the clipped cosine, times the length penalty."""
    products = [0.0] * ORDER
    for ngram, weight in ours.weights.items():
        other = theirs.weights.get(ngram)
        if other is not None:
            products[len(ngram) - 1] += min(weight, other) * other
    norms = (a * b for a, b in zip(ours.norms, theirs.norms, strict=True))
    cosines = (product / norm for product, norm in zip(products, norms, strict=True) if norm)
    return sum(cosines) / ORDER * math.exp(-((ours.length - theirs.length) ** 2) / (2 * SIGMA**2))
