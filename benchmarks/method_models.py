"""The models that ``method_step`` measures on, and everything a method may ask for: random tokens of one length."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from layer_weights import MADE, made_weights
from made_llama import LINEARS, Padding
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from kasa_corda.calibration.samples import Calibration
from kasa_corda.calibration.settings import CalibrationConfig
from kasa_corda.cli.compose import composed
from kasa_corda.config import RunConfig
from kasa_corda.methods import Method
from kasa_corda.methods.base import AdaptContext
from kasa_corda.models.cache import is_complete
from kasa_corda.models.empty import transformers_config
from kasa_corda.models.gguf import converted_folder
from kasa_corda.models.loading import load_model
from kasa_corda.models.quiet import silence_deprecations
from kasa_corda.pipeline import adapt_context


@dataclass(frozen=True)
class Setting:
    """One model, its training batch and the calibration set of the methods that look at data."""

    overrides: tuple[str, ...]
    batch: int
    length: int
    samples: int
    blocks: int | None = None
    """of the model, where not all are built"""


SETTINGS = {
    "smollm2": Setting(("model=smollm2_135m",), batch=8, length=512, samples=256),
    "7b": Setting(("model=llama2_7b",), batch=4, length=1024, samples=256, blocks=2),
    "toy": Setting(
        ("model=llama2_7b", "model.hidden_size=128", "model.intermediate_size=352", "model.heads=4"),
        batch=2,
        length=32,
        samples=8,
        blocks=2,
    ),
}
SHALLOW = {"adapter_drop": ("method.drop=1",)}
"""what a method needs to fit a stack of two blocks"""


@dataclass
class Bench:
    """A base model on its device and the random tokens to train it on; methods adapt copies of the model."""

    setting: Setting
    device: torch.device
    dtype: str
    base: nn.Module
    weights: str
    """whose they are"""
    lora: Any
    """options of method lora: which of another method's are the same"""
    targets: str
    rank: int

    def config(self, method: str) -> RunConfig:
        """The method at its configured defaults, but for rank and target modules where it has those of LoRA."""
        given = [*model_overrides(self.setting, self.dtype), "task=gsm8k", f"method={method}"]
        given += SHALLOW.get(method, ()) if self.setting.blocks else ()
        config = composed(given)
        if getattr(config.method, "rank", None) == self.lora.rank:
            given.append(f"method.rank={self.rank}")
        if config.method.target_modules == self.lora.target_modules:
            given.append(f"method.target_modules={self.targets}")
        return composed(given)

    def context(self, config: RunConfig, method: Method, steps: int) -> AdaptContext:
        """As a run of ``steps`` steps gives it, with random tokens for data."""
        context = adapt_context(config, method, [], steps)
        vocabulary = config.model.vocab_size
        if method.calibrated:
            ids = self.random_ids(self.setting.samples, vocabulary, seed=233)
            rows = [{"input_ids": row, "attention_mask": [1] * len(row)} for row in ids.tolist()]
            settings = CalibrationConfig(samples=len(rows), length=self.setting.length)
            context = replace(context, calibration=Calibration(settings, rows, Padding(), "random tokens"))

        def batches(count: int, size: int) -> Iterator[dict[str, Tensor]]:
            for seed in range(count):
                yield inputs_of(self.random_ids(size, vocabulary, seed).to(self.device))

        return replace(context, batches=batches)

    def random_ids(self, rows: int, vocabulary: int, seed: int) -> Tensor:
        return torch.randint(0, vocabulary, (rows, self.setting.length), generator=torch.Generator().manual_seed(seed))

    def training_batch(self) -> dict[str, Tensor]:
        vocabulary = int(self.base.config.vocab_size)  # type: ignore[union-attr, arg-type]
        return inputs_of(self.random_ids(self.setting.batch, vocabulary, seed=1).to(self.device))


def inputs_of(ids: Tensor) -> dict[str, Tensor]:
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids.clone()}


def bench_of(setting: Setting, device: torch.device, dtype: str, targets: str, rank: int) -> Bench:
    """Released weights if this machine's cache has them, else made ones of the same shape."""
    silence_deprecations()
    config = composed([*model_overrides(setting, dtype), "task=gsm8k", "method=lora"])
    torch.manual_seed(0)
    package = None if setting.blocks else config.model.package
    if package and is_complete(converted_folder(package)):
        loaded = load_model(asdict(config.model), None, None)
        model, weights = loaded.model.to(device), config.model.approximation or "released weights"
    else:
        model, weights = made_model(config, device), MADE
    model.config.use_cache = False  # type: ignore[union-attr]
    return Bench(setting, device, dtype, model.train(), weights, config.method, targets, rank)


def model_overrides(setting: Setting, dtype: str) -> list[str]:
    blocks = [f"model.layers={setting.blocks}"] if setting.blocks else []
    return [*setting.overrides, *blocks, f"model.dtype={dtype}"]


def made_model(config: RunConfig, device: torch.device) -> nn.Module:
    """The language model with made weights in its blocks and transformers' own start elsewhere."""
    settings = transformers_config(asdict(config.model))
    with torch.device(device):
        model: Any = AutoModelForCausalLM.from_config(settings, dtype=getattr(torch, config.model.dtype))
    with torch.no_grad():
        for block in model.model.layers:
            layers = {name: block.get_submodule(name) for name in LINEARS}
            shapes = {name: (layer.out_features, layer.in_features) for name, layer in layers.items()}
            for name, W in made_weights(shapes, device):
                layers[name].weight.copy_(W)
    return model


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """TimeoutError after that long, as soon as Python is back from what it calls."""

    def late(*_: Any) -> None:
        raise TimeoutError(f"more than {seconds:g} s with its preparation")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)  # again each second: one that lands in a finaliser is lost
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def empty_cache() -> Iterator[None]:
    """A spectral cache in which nothing lies yet, so that a method finds no other's work."""
    before = os.environ.get("KASA_CORDA_CACHE")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["KASA_CORDA_CACHE"] = folder
        try:
            yield
        finally:
            os.environ.pop("KASA_CORDA_CACHE")
            if before is not None:
                os.environ["KASA_CORDA_CACHE"] = before
