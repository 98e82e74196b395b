"""NIST-5 (Doddington 2002) as the official script's mteval-v13a computes it for varying numbers of references.

A matching n-gram counts by its information, log2(count of its first n - 1 words / its count) over all references. The
length penalty compares with all reference words divided by the mean number of references of a text. (e2e-metrics' own
Python port and nltk take the mean reference length of each text instead; nltk also counts information differently.)
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from .measured import Measured
from .ngrams import Ngram, counted, most
from .tokenise import mteval

ORDER = 5
BETA = -math.log(0.5) / math.log(1.5) ** 2
"""the penalty is 0.5 where a system writes two thirds of the reference words"""


def nist(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> Measured:
    """NIST, no fraction: about 8 to 9 for good systems on E2E."""
    per_text = [[mteval(reference) for reference in accepted] for accepted in references]
    counts = [[counted(words, ORDER) for words in accepted] for accepted in per_text]
    total: Counter[Ngram] = Counter()
    for accepted in counts:
        for one in accepted:
            total.update(one)
    total[()] = sum(len(words) for accepted in per_text for words in accepted)
    rows = []
    for prediction, words_of, accepted in zip(predictions, per_text, counts, strict=True):
        words = mteval(prediction)
        information = [0.0] * ORDER
        highest = most(accepted)
        for ngram, count in counted(words, ORDER).items():
            if ngram in highest:
                information[len(ngram) - 1] += min(count, highest[ngram]) * math.log2(total[ngram[:-1]] / total[ngram])
        written = [max(len(words) - n, 0) for n in range(ORDER)]
        rows.append([*information, *written, sum(map(len, words_of)), sum(1 for r in words_of if r), 1])
    return Measured(np.asarray(rows, dtype=float), _score)


def _score(sums: np.ndarray) -> float:
    """From [information of order 1..5, n-grams of order 1..5, reference words, references, texts]."""
    information, written = sums[:ORDER], sums[ORDER : 2 * ORDER]
    words, references, texts = sums[2 * ORDER :]
    if written[0] == 0 or words == 0:
        return 0.0
    ratio = written[0] / (words / (references / texts))
    penalty = math.exp(-BETA * math.log(min(ratio, 1.0)) ** 2)
    return float((information / np.maximum(written, 1)).sum() * penalty)
