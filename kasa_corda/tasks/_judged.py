"""Tasks whose answers a judge scores: what stands in a result until one has."""

from __future__ import annotations

from ..evaluation import judge
from ..evaluation.base import Evaluation

HOW = "answers are kept in predictions/; python scripts/judge.py RUN_DIR --base-url URL --model NAME judges them"


def unjudged(metric: str, graded: Evaluation) -> Evaluation:
    """The same with the judge's metric as NaN, and a note on it, where ``metric`` is one of a judge."""
    if metric in judge.METRICS:
        graded.scores[metric] = graded.errors[metric] = float("nan")
        graded.notes.append(f"{judge.NOT_JUDGED}: {HOW}")
    return graded
