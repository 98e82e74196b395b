"""AdaLoRA (arXiv 2303.10512): W x + (alpha / r) B diag(E) A x, whose ranks are pruned by sensitivity during training.

PEFT's layers and budget; its penalty is our auxiliary loss, since PEFT adds it to the loss of evaluations as well.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

from ..config.schema import LowRankConfig, option
from ..errors import ConfigError
from . import METHODS
from ._peft import PeftMethod, check_rank, lora_arguments
from .base import AdaptContext, Facts

if TYPE_CHECKING:
    import torch
    from peft import PeftConfig
    from torch import Tensor, nn

    from ..regulariser import Regulariser

AVERAGES = ("exp_avg_ipt", "exp_avg_unc")
MASK = "rank_pattern"


@dataclass
class AdaLoraConfig(LowRankConfig):
    """``rank`` is the average over the layers after pruning; the scale is alpha / init_rank throughout."""

    rank: int = option(8, "average rank after pruning (the paper's budget / number of layers)", at_least=1)
    init_rank: Optional[int] = option(None, "rank of every layer before pruning; null is 1.5 x rank", at_least=2)
    tinit: float = option(0.15, "steps before pruning: below 1 a share of all steps, from 1 on a number", at_least=0)
    tfinal: float = option(0.5, "steps after pruning: below 1 a share of all steps, from 1 on a number", at_least=0)
    delta_t: int = option(10, "steps between two prunings", at_least=1)
    beta1: float = option(0.85, "moving average of the sensitivity", above=0, below=1)
    beta2: float = option(0.85, "moving average of its uncertainty", above=0, below=1)
    orthogonality: float = option(0.1, "weight of mean ||A A' - I|| over all A and B (B' B); PEFT's is 0.5", at_least=0)
    total_steps: Optional[int] = option(
        None, "optimizer steps that the schedule counts on; null is those of the run", at_least=1
    )


@METHODS.register("adalora")
class AdaLora(PeftMethod):
    facts = Facts("low rank", "arXiv 2303.10512", "A, B and E of every target layer, until pruned")
    Config = AdaLoraConfig
    LEARNING_RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.model: Any = None
        self._regulariser: Regulariser | None = None

    @property
    def init_rank(self) -> int:
        return self.config.init_rank or -(-3 * self.config.rank // 2)

    def check(self, shapes: dict[str, tuple[int, int]]) -> None:
        if self.init_rank <= self.config.rank:
            raise ConfigError(
                f"method.init_rank={self.init_rank} leaves nothing to prune to method.rank={self.config.rank};"
                f" use {self.config.rank + 1} or more"
            )
        name, shape = min(shapes.items(), key=lambda item: min(item[1]))
        if self.init_rank > min(shape):
            key = f"method.rank={self.config.rank}" if self.config.init_rank is None else "method.init_rank"
            raise ConfigError(
                f"{key} starts every layer at rank {self.init_rank}, above the {min(shape)} of layer {name}"
            )
        check_rank(self.config.rank, shapes)

    def peft_config(self, context: AdaptContext) -> PeftConfig:
        from peft import AdaLoraConfig as Peft

        arguments = lora_arguments(self.config, context)
        del arguments["r"]  # PEFT's AdaLoRA doesn't read it, and warns
        total, tinit, tfinal = self.schedule(context.total_steps)
        return Peft(
            **arguments,
            init_r=self.init_rank,
            target_r=self.config.rank,
            total_step=total,
            tinit=tinit,
            tfinal=tfinal,
            deltaT=self.config.delta_t,
            beta1=self.config.beta1,
            beta2=self.config.beta2,
            orth_reg_weight=self.config.orthogonality,
        )

    def schedule(self, steps: int) -> tuple[int, int, int]:
        """(all steps, those before pruning, those after it); shares leave at least one step for it."""
        total = max(self.config.total_steps or steps, 2)
        tinit, tfinal = self.config.tinit, self.config.tfinal
        tfinal = int(tfinal if tfinal >= 1 else min(tfinal * total, total - 2))
        tinit = int(tinit if tinit >= 1 else min(tinit * total, max(total - tfinal - 1, 0)))
        if tinit >= total - tfinal or total - tfinal < 2:
            raise ConfigError(
                f"method.tinit={self.config.tinit:g} and method.tfinal={self.config.tfinal:g} leave none of {total}"
                " steps for pruning; lower them, or give shares below 1"
            )
        return total, tinit, tfinal

    def adapt(self, model: nn.Module, context: AdaptContext) -> nn.Module:
        from ._adalora import without_penalty

        if not (self.config.total_steps or context.total_steps):
            if not next(model.parameters()).is_meta:
                raise ConfigError("method adalora must know the optimizer steps that come: give total_steps")
            context = replace(context, total_steps=100)  # counting parameters: any schedule will do
        self.model = without_penalty(super().adapt(model, context))
        return self.model  # type: ignore[no-any-return]

    def load(self, model: nn.Module, directory: Path) -> nn.Module:
        from ._adalora import without_penalty

        with warnings.catch_warnings():
            # PEFT takes the pattern of its own file for one of LoRA's, says that it ignores it, and then applies it
            warnings.filterwarnings("ignore", message="The following rank_pattern keys did not match")
            return without_penalty(super().load(model, directory))

    def auxiliary_loss(self, model: nn.Module) -> Tensor | None:
        return self._penalty(model)() if self.config.orthogonality else None

    def add_auxiliary_gradient(self, model: nn.Module, scale: float | Tensor) -> Tensor | None:
        return self._penalty(model).add_gradient(scale) if self.config.orthogonality else None

    def _penalty(self, model: Any) -> Regulariser:
        if self._regulariser is None:
            from ..regulariser import Form, Regulariser
            from ._adalora import triplets

            # the mean over matrices, of which every layer has two
            self._regulariser = Regulariser(
                [(A, E, B) for _, (A, E, B) in triplets(model)], 0.0, self.config.orthogonality / 2, Form(mean=True)
            )
        return self._regulariser

    def after_step(self, model: Any, step: int) -> None:
        from ._adalora import triplets

        for _, parts in triplets(model):
            for p in parts:
                assert p.grad is not None
                p.grad.nan_to_num_(0.0, 0.0, 0.0)  # a step that fp16 skipped must not spoil the averages
        model.base_model.update_and_allocate(step + 1)

    def trained_state(self, model: Any) -> dict[str, torch.Tensor]:
        """The parameters, and what the budget has measured and decided so far."""
        import torch

        state = super().trained_state(model)
        allocator = model.base_model.rankallocator
        for kind in AVERAGES:
            state |= {f"{kind}|{name}": average for name, average in getattr(allocator, kind).items()}
        pattern = model.peft_config["default"].rank_pattern or {}
        return state | {f"{MASK}|{name}": torch.tensor(kept) for name, kept in pattern.items()}

    def restore(self, model: Any, state: dict[str, torch.Tensor]) -> None:
        kinds: dict[str, dict[str, torch.Tensor]] = {kind: {} for kind in (*AVERAGES, MASK, "")}
        for key, value in state.items():
            kind, _, name = key.rpartition("|")
            kinds[kind][name] = value
        super().restore(model, kinds[""])
        allocator = model.base_model.rankallocator
        devices = {name: p.device for name, p in model.base_model.model.named_parameters()}
        for kind in AVERAGES:
            setattr(allocator, kind, {n: t.to(devices[n], copy=True) for n, t in kinds[kind].items()})
        allocator.ipt = dict(allocator.exp_avg_ipt)  # PEFT starts the averages anew for names that it lacks
        pattern = {name: kept.tolist() for name, kept in kinds[MASK].items()}
        model.peft_config["default"].rank_pattern = pattern or None

    def save(self, model: Any, directory: Path, base: str) -> None:
        """Without the pruned rows. PEFT's own pattern is that of the last pruning, after which rows have come back."""
        from ._adalora import rank_pattern

        config = model.peft_config["default"]
        during, config.rank_pattern = config.rank_pattern, rank_pattern(model)
        try:
            super().save(model, directory, base)
        finally:
            config.rank_pattern = during

    def report(self) -> dict[str, Any]:
        if self.model is None or next(self.model.parameters()).is_meta:
            return {}
        from ._adalora import rank_pattern, triplets

        layers = list(triplets(self.model))
        ranks = [int(E.count_nonzero()) for _, (_, E, _) in layers]
        rows = [sum(kept) for kept in rank_pattern(self.model).values()]
        trained = sum(p.numel() for _, parts in layers for p in parts)
        stored = sum(row * (A.shape[1] + 1 + B.shape[0]) for row, (_, (A, _, B)) in zip(rows, layers, strict=True))
        return {
            "notes": [
                f"AdaLoRA trains {trained:,} adapter parameters (rank {self.init_rank}), of which {stored:,} are stored"
                f" after pruning (rank {min(ranks)} to {max(ranks)}, {sum(ranks) / len(ranks):.2f} on average)"
            ],
            "layers": [{"layer": name, "rank": rank} for rank, (name, _) in zip(ranks, layers, strict=True)],
        }
