"""alpha's rule, which every learning rate needs beside it: with alpha = r the best rate falls with the rank, with a
fixed alpha it hardly moves (arXiv 2602.04998; LoRA Without Regret)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

EQUAL = "alpha = r"


@dataclass(frozen=True)
class AlphaRule:
    """How alpha goes with the rank."""

    text: str | None
    """'fixed 16' or 'alpha = r'; None for methods without alpha"""
    scale: float | None
    """the factor before the update: alpha / r, or alpha / sqrt(r) where the method has that"""


def alpha_rule(method: Mapping[str, Any]) -> AlphaRule:
    """Of one run's method settings. A factor that is 1 whatever alpha, as in CorDA's paper, is alpha = r."""
    rank, alpha = method.get("rank"), method.get("alpha")
    if not rank or "alpha" not in method:
        return AlphaRule(None, None)
    if _without_alpha(method):
        return AlphaRule(EQUAL, 1.0)
    alpha = rank if alpha is None else alpha
    divisor = math.sqrt(rank) if _by_root(method) else _rank_at_start(method)
    return AlphaRule(EQUAL if alpha == rank else f"fixed {alpha:g}", alpha / divisor)


def _without_alpha(method: Mapping[str, Any]) -> bool:
    if method.get("name") not in ("corda_kpa", "corda_ipa"):
        return False
    from ..corda.presets import PRESETS

    return _switch(method, PRESETS) != "peft"


def _by_root(method: Mapping[str, Any]) -> bool:
    if method.get("name") == "kasa":
        from ..kasa.presets import PRESETS

        return _switch(method, PRESETS) == "rslora"
    return method.get("name") == "rslora" or bool(method.get("rslora"))


def _switch(method: Mapping[str, Any], presets: Mapping[str, Any]) -> str | None:
    """The method's ``scaling``, its own or its variant's."""
    preset = presets.get(str(method.get("variant")))
    return method.get("scaling") or (preset.scaling if preset else None)


def _rank_at_start(method: Mapping[str, Any]) -> float:
    """AdaLoRA divides by the rank before pruning."""
    if method.get("name") != "adalora":
        return float(method["rank"])
    return float(method.get("init_rank") or -(-3 * method["rank"] // 2))
