"""DyLoRA (arXiv 2210.07558): LoRA whose first b components work alone, for every b <= r.

Every step draws b from 1..r and trains (alpha / b) B_(:, :b) A_(:b, :); one run is evaluated at any rank.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Optional

from ..config.schema import LowRankConfig, option
from ..errors import ConfigError
from . import METHODS
from ._linear_method import LowRankMethod
from ._own import wrappers
from ._peft import check_rank
from .base import Facts

if TYPE_CHECKING:
    from torch import nn

    from ._linear import LinearWrapper


@dataclass
class DyLoraConfig(LowRankConfig):
    """Options of DyLoRA; the scale is alpha / (rank in use)."""

    frozen: bool = option(False, "train only the last of the sampled components (the paper's cheaper form)")
    rank_at_evaluation: Optional[int] = option(
        None, "components in use when evaluating and exporting; null is rank", at_least=1
    )


@METHODS.register("dylora")
class DyLora(LowRankMethod):
    """One stored run, evaluated at several ranks::

    run = load_run("runs/TASK/MODEL/dylora/RUN_ID")
    for rank in (1, 2, 4, 8):
        run.method.use_rank(run.model, rank)
        print(rank, evaluate(run.model, run.tokenizer, "glue/sst2"))
    """

    facts = Facts(
        "low rank",
        "arXiv 2210.07558; huawei-noah/Efficient-NLP DyLoRA",
        "the first b rows of A and columns of B, b drawn at every step",
        four_bit=True,
    )
    Config = DyLoraConfig

    @property
    def evaluated(self) -> int:
        return self.config.rank_at_evaluation or self.config.rank

    def check(self, shapes: dict[str, tuple[int, int]]) -> None:
        check_rank(self.config.rank, shapes)
        self._check_evaluated(self.evaluated, "method.rank_at_evaluation")

    def wrap(self, name: str, layer: nn.Module) -> LinearWrapper:
        from ._linear import Nested

        wrapper = Nested(layer, self.config.rank, self.config.alpha, self.config.dropout)
        wrapper.evaluate(self.evaluated)
        return wrapper

    def before_step(self, model: nn.Module, step: int) -> None:
        assert self.context is not None
        b = sampled_rank(self.config.rank, self.context.seed, step)
        for _, layer in wrappers(model):
            layer.sample(b, frozen=self.config.frozen)

    def use_rank(self, model: nn.Module, rank: int) -> None:
        """Evaluate, merge and export with the first ``rank`` components from now on. ConfigError above method.rank."""
        self._check_evaluated(rank, "rank")
        for _, layer in wrappers(model):
            layer.evaluate(rank)

    def _check_evaluated(self, rank: int, key: str) -> None:
        if not 1 <= rank <= self.config.rank:
            raise ConfigError(f"{key}={rank} is not among the trained ranks 1 to {self.config.rank} (method.rank)")


def sampled_rank(rank: int, seed: int, step: int) -> int:
    """The rank of one step, uniform in 1..rank, from (seed, step) alone: the same on every process."""
    import numpy as np

    return int(np.random.default_rng([seed, step, 3]).integers(1, rank + 1))
