"""What a corpus metric leaves behind: its score, its standard error, and each text's own value where there is one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..errors import bootstrap


@dataclass(frozen=True)
class Measured:
    """A metric over texts as statistics that add up: resampling the texts costs a sum of rows."""

    statistics: np.ndarray
    """(texts, columns)"""
    corpus: Callable[[np.ndarray], float]
    """the score from the summed statistics (columns,)"""
    each: np.ndarray | None = None
    """(texts,) the metric of each text alone, where that is defined"""

    @classmethod
    def mean(cls, values: list[float]) -> Measured:
        """A metric that is the mean of its texts' values."""
        each = np.asarray(values, dtype=float)
        return cls(np.stack([each, np.ones_like(each)], 1), lambda sums: float(sums[0] / sums[1]), each)

    @property
    def score(self) -> float:
        return self.corpus(self.statistics.sum(0))

    def error(self) -> float:
        """Standard error over the texts (seeded bootstrap); what the metric learns of the references stays fixed."""
        if len(self.statistics) < 2:
            return 0.0
        return bootstrap(lambda drawn: self.corpus(self.statistics[drawn].sum(0)), len(self.statistics))
