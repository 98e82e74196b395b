"""Scores of the same texts under further rules of extraction and comparison, beside a task's own."""

from __future__ import annotations

from collections.abc import Sequence

from ..evaluation.base import Evaluation
from ..evaluation.errors import of_mean

PAPER, ROBUST = "exact_match_paper", "exact_match_robust"


def add_rule(evaluation: Evaluation, metric: str, predictions: Sequence[str | None], right: Sequence[bool]) -> None:
    """Add ``metric``, the share of ``right``, with its standard error, and per example what was read and whether right.

    The columns are named <metric> and prediction_<rule>, e.g. prediction_paper.
    """
    values = [float(value) for value in right]
    evaluation.scores[metric] = sum(values) / len(values)
    evaluation.errors[metric] = of_mean(values)
    for row, prediction, value in zip(evaluation.rows, predictions, values, strict=True):
        row |= {f"prediction_{metric.rpartition('_')[2]}": prediction, metric: value}
