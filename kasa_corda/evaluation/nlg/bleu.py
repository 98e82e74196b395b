"""BLEU-4 of mteval-v13a: lower-cased, closest reference length, n-gram orders without a match smoothed by 1 / 2^k."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .measured import Measured
from .tokenise import mteval

ORDER = 4


def bleu(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> Measured:
    """BLEU as a fraction. The n-gram counts are sacrebleu's, on mteval's words."""
    from sacrebleu.metrics.bleu import BLEU

    counter = BLEU(tokenize="none", max_ngram_order=ORDER, effective_order=True)
    rows = []
    for prediction, accepted in zip(predictions, references, strict=True):
        words = " ".join(mteval(prediction))
        counts = counter.sentence_score(words, [" ".join(mteval(reference)) for reference in accepted])
        rows.append([*counts.counts, *counts.totals, counts.ref_len])
    return Measured(np.asarray(rows, dtype=float), _score)


def _score(sums: np.ndarray) -> float:
    """mteval's formula from [matches of order 1..4, n-grams of order 1..4, reference length]."""
    matches, totals, reference_length = sums[:ORDER], sums[ORDER : 2 * ORDER], sums[-1]
    if totals[0] == 0:
        return 0.0
    logarithms, smooth = 0.0, 1.0
    for found, total in zip(matches, totals, strict=True):
        if total == 0:
            continue
        if found == 0:
            smooth *= 2
        logarithms += math.log((found or 1 / smooth) / total)
    return math.exp(logarithms / ORDER + min(0.0, 1 - reference_length / totals[0]))
