"""How scores are read: most metrics are fractions, shown x 100, and more is better; some are not."""

from __future__ import annotations

AS_THEY_ARE = ("nist", "cider", "loss", "perplexity")
"""no fractions: shown as they are"""
LOWER_IS_BETTER = ("loss", "perplexity")


def factor(metric: str) -> int:
    """What a score is multiplied by where it is shown; the metrics of a further task are <task>_<metric>."""
    return 1 if _is(metric, AS_THEY_ARE) else 100


def higher_is_better(metric: str) -> bool:
    return not _is(metric, LOWER_IS_BETTER)


def _is(metric: str, names: tuple[str, ...]) -> bool:
    return metric in names or metric.endswith(tuple(f"_{name}" for name in names))
