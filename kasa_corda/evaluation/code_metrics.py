"""pass@k: the chance that at least one of k samples of a problem passes its tests (Chen et al. 2021)."""

from __future__ import annotations

import math
from collections.abc import Sequence


def pass_at(samples: int, passed: int, k: int) -> float:
    """Unbiased estimate for one problem, of which ``passed`` of ``samples`` pass: 1 - C(n - c, k) / C(n, k).

    Exact in integers, then one division. ValueError unless 0 <= passed <= samples and 1 <= k <= samples.
    """
    if not 0 <= passed <= samples or not 1 <= k <= samples:
        raise ValueError(f"pass@{k} is not defined for {passed} passing of {samples} samples")
    return 1 - math.comb(samples - passed, k) / math.comb(samples, k)


def pass_rates(passed: Sequence[Sequence[bool]], k: int) -> list[float]:
    """pass@k of every problem; ``passed[i]`` says of each sample of problem i whether it passed."""
    return [pass_at(len(samples), sum(samples), k) for samples in passed]
