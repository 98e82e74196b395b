"""METEOR 1.5 (Denkowski and Lavie 2014) with its English ranking weights.

The program of the official script is Java; this is the same computation in Python. With METEOR's published data
(``meteor_resources.published``) it gives the official score; without, it knows no synonyms and paraphrases and its
list of function words is our own, so that the score is an approximation (docs/tasks.md says by how much).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .measured import Measured
from .meteor_alignment import align
from .meteor_matches import Matcher, Words
from .meteor_resources import Resources
from .meteor_words import meteor_words

ALPHA, BETA, GAMMA, DELTA = 0.85, 0.2, 0.6, 0.75
STAGE_WEIGHTS = (1.0, 0.6, 0.8, 0.6)
"""of exact matches, stems, synonyms and paraphrases"""


def meteor(predictions: Sequence[str], references: Sequence[Sequence[str]], resources: Resources) -> Measured:
    """METEOR as a fraction, from the statistics of every text's best reference."""
    ours = [meteor_words(prediction) for prediction in predictions]
    theirs = [[meteor_words(reference) for reference in accepted] for accepted in references]
    paraphrases = resources.paraphrases([*ours, *(words for accepted in theirs for words in accepted)])
    rows = []
    for words, accepted in zip(ours, theirs, strict=True):
        matcher = Matcher(words, resources, paraphrases)
        options = [_statistics(matcher, other) for other in dict.fromkeys(accepted)]
        rows.append(max(options, key=_score))
    statistics = np.asarray(rows, dtype=float)
    return Measured(statistics, _score, np.array([_score(row) for row in statistics]))


def _statistics(matcher: Matcher, theirs: Words) -> list[float]:
    """[weighted matches, weighted length, matched words] of both sides, then chunks; all add up over texts.

    A text that is its reference word for word has no chunk: nothing of it is fragmented.
    """
    chosen, chunks = align(matcher.candidates(theirs))
    row: list[float] = []
    for words, spans in (
        (matcher.ours, [(match.at, match.span, match.stage) for match in chosen]),
        (theirs, [(match.start, match.length, match.stage) for match in chosen]),
    ):
        weights = [1 - DELTA if word in matcher.resources.function_words else DELTA for word in words]
        matched = sum(STAGE_WEIGHTS[stage] * sum(weights[at : at + span]) for at, span, stage in spans)
        row += [matched, sum(weights), sum(span for _, span, _ in spans)]
    whole = chunks == 1 and (row[2], row[5]) == (len(matcher.ours), len(theirs))
    return [*row, 0 if whole else chunks]


def _score(sums: Sequence[float] | np.ndarray) -> float:
    matched, weight, words, matched_r, weight_r, words_r, chunks = map(float, sums)
    if not matched or not matched_r:
        return 0.0
    precision, recall = matched / weight, matched_r / weight_r
    mean = 1 / ((1 - ALPHA) / precision + ALPHA / recall)
    fragmentation = chunks / ((words + words_r) / 2)
    return max(mean * (1 - GAMMA * fragmentation**BETA), 0.0)
