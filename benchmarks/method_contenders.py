"""The two sides of ``method_step``: PEFT's own LoRA, and a registered method as a run prepares and trains it."""

from __future__ import annotations

import copy
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import peft
import torch
from method_models import Bench
from torch import Tensor, nn

from kasa_corda.methods import METHODS, Method

LEARNING_RATE = 1e-4
ADAMW: dict[str, Any] = {"lr": LEARNING_RATE, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0}


@dataclass
class Contender:
    """A model in training."""

    bench: Bench
    model: nn.Module
    batch: dict[str, Tensor]
    optimizer: torch.optim.Optimizer
    method: Method | None = None
    done: int = 0

    def loss(self) -> Tensor:
        reduced = self.bench.dtype != "float32"
        with torch.autocast(self.bench.device.type, torch.bfloat16) if reduced else nullcontext():
            found: Tensor = self.model(**self.batch).loss
        return found

    def step(self) -> None:
        """One optimizer step, as the trainer takes it."""
        if self.method is not None:
            self.method.before_step(self.model, self.done)
        self.loss().backward()
        if self.method is not None:
            self.method.add_auxiliary_gradient(self.model, 1.0)
        self.optimizer.step()
        if self.method is not None:
            self.method.after_step(self.model, self.done)
        self.optimizer.zero_grad(set_to_none=True)
        self.done += 1


def adamw(groups: Any, bench: Bench) -> torch.optim.Optimizer:
    """torch's, the same for both sides; fused where the trainer fuses it."""
    return torch.optim.AdamW(groups, **ADAMW, fused=bench.device.type == "cuda" or None)


def reference(bench: Bench) -> Contender:
    """PEFT's LoRA without anything of ours, at lora's own config."""
    config = bench.config("lora")
    lora = peft.LoraConfig(
        r=config.method.rank,  # type: ignore[attr-defined]
        lora_alpha=config.method.alpha,  # type: ignore[attr-defined]
        target_modules=bench.context(config, METHODS["lora"](config.method), 0).targets,
        task_type="CAUSAL_LM",
    )
    model: Any = peft.get_peft_model(copy.deepcopy(bench.base), lora).train()  # type: ignore[arg-type]
    trained = [p for p in model.parameters() if p.requires_grad]
    return Contender(bench, model, bench.training_batch(), adamw(trained, bench))


class Preparation:
    """A method about to adapt a copy of the base model; ``run`` is what the clock sees."""

    def __init__(self, bench: Bench, name: str, steps: int) -> None:
        config = bench.config(name)
        self.bench, self.method, self.model = bench, METHODS[name](config.method), copy.deepcopy(bench.base)
        self.context = bench.context(config, self.method, steps)

    def run(self) -> None:
        self.method.prepare(self.model, self.context)
        torch.manual_seed(0)
        self.model = self.method.adapt(self.model, self.context).to(self.bench.device).train()

    def contender(self) -> Contender:
        """The adapted model with the optimizer that the trainer would give it."""
        trained = [p for p in self.model.parameters() if p.requires_grad]
        groups = self.method.parameter_groups(self.model, LEARNING_RATE) or [{"params": trained, "lr": LEARNING_RATE}]
        optimizer = self.method.optimizer(self.model, groups, **ADAMW) or adamw(groups, self.bench)
        return Contender(self.bench, self.model, self.bench.training_batch(), optimizer, self.method)
