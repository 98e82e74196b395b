"""Every registered method on a small encoder (RoBERTa, classification) and a small decoder (LLaMA, language model)."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from small_models import small

from kasa_corda.api import Adapted, adapt
from kasa_corda.methods import METHODS
from kasa_corda.models.empty import transformers_config

ARCHITECTURE = {"encoder": "roberta", "decoder": "llama"}
OPTIONS: dict[str, dict[str, Any]] = {
    "lora_xs": {"rank": 8, "alpha": 5.0},  # about the published scale, 16 / 25
    "ft_top": {"blocks": 1},
    "adalora": {"total_steps": 60, "delta_t": 2},
    "oft": {"block_size": 4},
    "prefix_tuning": {"tokens": 3},
    "prompt_tuning": {"tokens": 3},
    "p_tuning": {"tokens": 3},
    "adapter_drop": {"variant": "robust", "drop": 1},
}
"""options that a method needs to fit models this small; rank is 2 everywhere that has one"""
TARGETS: dict[str, Any] = {"ia3": "kv_down"}
"""method -> target modules, if all linear layers are not what it adapts"""
NEEDS = {"loftq": "bitsandbytes"}
"""method -> package without which it refuses"""


@dataclass(frozen=True)
class Case:
    method: str
    kind: str

    def __str__(self) -> str:
        return f"{self.method}-{self.kind}"

    @property
    def facts(self) -> Any:
        return METHODS[self.method].facts

    @property
    def options(self) -> dict[str, Any]:
        rank = {"rank": 2} if "rank" in METHODS[self.method].Config.__dataclass_fields__ else {}
        return rank | OPTIONS.get(self.method, {})

    def base(self) -> torch.nn.Module:
        return base_model(self.kind)

    def adapted(self, seed: int = 0) -> Adapted:
        torch.manual_seed(seed)
        return adapt(
            self.base(),
            self.method,
            target_modules=TARGETS.get(self.method, "all_linear"),
            calibration=[batch(self.kind, seed) for seed in range(8)],
            seed=seed,
            **self.options,
        )

    def loaded(self, folder: Path) -> torch.nn.Module:
        chosen = METHODS[self.method]
        return chosen(chosen.Config(name=self.method, **self.options)).load(self.base(), folder).eval()


def cases() -> list[Case]:
    """Those that the method doesn't refuse, with the packages that are installed."""
    return [
        Case(name, kind)
        for name, method in METHODS.items()
        if method.trains
        for kind, architecture in ARCHITECTURE.items()
        if architecture not in method.facts.refuses and not (name == "probe" and kind == "decoder")
        if name not in NEEDS or find_spec(NEEDS[name])
    ]


def base_model(kind: str) -> torch.nn.Module:
    """The same weights at every call, as a checkpoint would give."""
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    config = transformers_config(small(ARCHITECTURE[kind]))
    config.pad_token_id = 0
    factory = AutoModelForSequenceClassification if kind == "encoder" else AutoModelForCausalLM
    torch.manual_seed(5)
    model = factory.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            # transformers starts biases at 0 and norms at 1; trained models have neither
            parameter.add_(torch.randn_like(parameter), alpha=0.1 if parameter.ndim == 1 else 0.02)
    return model.eval()


def batch(kind: str, seed: int = 0) -> dict[str, torch.Tensor]:
    """Four labelled inputs of six tokens, the last two of one padded."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(5, 20, (4, 6), generator=generator)
    mask = torch.ones_like(ids)
    ids[3, 4:], mask[3, 4:] = 0, 0
    labels = torch.tensor([0, 1, 1, 0]) if kind == "encoder" else ids.masked_fill(mask == 0, -100)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def logits(model: torch.nn.Module, kind: str) -> torch.Tensor:
    """Without labels, in evaluation mode; padded positions left out."""
    inputs = {key: value for key, value in batch(kind, 99).items() if key != "labels"}
    was = model.training
    with torch.no_grad():
        found = model.eval()(**inputs).logits.float()
    model.train(was)
    return found if kind == "encoder" else found[inputs["attention_mask"].bool()]


def optimizer_of(adapted: Adapted, learning_rate: float) -> torch.optim.Optimizer:
    """As the trainer makes it."""
    model, method = adapted
    groups = method.parameter_groups(model, learning_rate)
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = groups or [{"params": trained, "lr": learning_rate}]
    settings: dict[str, Any] = {"lr": learning_rate, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0}
    return method.optimizer(model, groups, **settings) or torch.optim.AdamW(groups, **settings)


def train(adapted: Adapted, kind: str, steps: int, learning_rate: float | None = None) -> list[float]:
    """Task losses of ``steps`` steps on one batch, with every hook of the method."""
    model, method = adapted
    optimizer = optimizer_of(adapted, learning_rate or method.config.learning_rate)
    losses = []
    model.train()
    for step in range(steps):
        method.before_step(model, step)
        loss = model(**batch(kind)).loss
        loss.backward()
        method.add_auxiliary_gradient(model, 1.0)
        optimizer.step()
        method.after_step(model, step)
        optimizer.zero_grad(set_to_none=True)
        losses.append(float(loss.detach()))
    model.eval()
    return losses
