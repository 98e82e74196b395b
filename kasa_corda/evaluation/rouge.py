"""ROUGE-1, ROUGE-2 and ROUGE-L (F-measure) as the rouge-score library gives them, without stemming.

Tokens and n-gram scores are the library's. Its ROUGE-L fills a table of Python lists (0.29 s for two texts of 1,000
words); here the longest common subsequence is counted with the bits of one integer, to the same result. Words are
runs of a-z and 0-9 after lower-casing: texts in other scripts have none and score 0.
"""

from __future__ import annotations

from collections.abc import Sequence

ROUGE = ("rouge1", "rouge2", "rougeL")


def rouge(prediction: str, reference: str) -> dict[str, float]:
    """F-measures of one text against one reference, each a fraction."""
    from rouge_score import rouge_scorer, scoring, tokenize

    predicted, expected = (tokenize.tokenize(text, None) for text in (prediction, reference))
    known = _Tokenised({prediction: predicted, reference: expected})
    scorer = rouge_scorer.RougeScorer(["rouge1", "rouge2"], tokenizer=known)
    scores = {name: float(score.fmeasure) for name, score in scorer.score(reference, prediction).items()}
    common = common_subsequence(expected, predicted)
    precision, recall = common / max(len(predicted), 1), common / max(len(expected), 1)
    return {**scores, "rougeL": float(scoring.fmeasure(precision, recall))}


def common_subsequence(first: Sequence[str], second: Sequence[str]) -> int:
    """Length of the longest common subsequence (bit-parallel: Hyyro 2004)."""
    places: dict[str, int] = {}
    for index, token in enumerate(first):
        places[token] = places.get(token, 0) | 1 << index
    everything = (1 << len(first)) - 1
    unmatched = everything
    for token in second:
        matched = unmatched & places.get(token, 0)
        unmatched = ((unmatched + matched) | (unmatched - matched)) & everything
    return len(first) - unmatched.bit_count()


class _Tokenised:
    """The library's tokenizer interface over texts that are tokenised already."""

    def __init__(self, tokens: dict[str, list[str]]) -> None:
        self.tokens = tokens

    def tokenize(self, text: str) -> list[str]:
        return self.tokens[text]
