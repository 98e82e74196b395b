"""How scores are printed: mostly x 100."""

from __future__ import annotations

from ..evaluation.judge import JUDGE_SCORE
from ..evaluation.units import factor


def printed_factor(metric: str) -> int:
    """What our number is multiplied by to stand beside a printed one. Judges' marks are printed out of ten."""
    if "." in metric:  # a path in result.json
        return 1
    return 10 if metric.endswith(JUDGE_SCORE) else factor(metric)


def unit(metric: str) -> str:
    """What a printed difference is counted in."""
    if "." in metric:
        return {"seconds": "s", "peak_memory_bytes": "bytes"}.get(metric.partition(".")[0], metric)
    if metric.endswith(JUDGE_SCORE):
        return "marks"
    return "points" if factor(metric) == 100 else metric.rpartition("_")[2]
