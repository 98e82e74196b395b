"""A few steps of a run's real shape with random weights and made-up tokens: what a step costs, before any download."""

from __future__ import annotations

import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from ..config import RunConfig
from .lengths import Lengths, lengths_of
from .observed import Observation

WARM_UP = 3
"""steps before the measured ones"""
FIRST_TOKEN = 5
"""token ids are drawn from here up; below are special ones"""


class Enough(Exception):
    """The last step is measured."""


def rehearse(config: RunConfig, *, steps: int = 10, device: str | None = None, name: str = "") -> Observation:
    """Train ``steps`` steps through the project's own Trainer and measure each; nothing is read or written.

    Calibrated methods train a LoRA of the same rank here: their steps are the same, only their start is not.
    """
    import torch
    from accelerate import Accelerator

    from ..measure import peak_memory, reset_peak_memory
    from ..methods import METHODS
    from ..models.loading import empty_model
    from ..pipeline import adapt_context
    from ..provenance import device_name, package_versions
    from ..seeds import seed_everything
    from ..tasks import TASKS

    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    config = stand_in(config, steps)
    mixed = {"fp32": "no"}.get(config.trainer.precision, config.trainer.precision)
    accelerator = Accelerator(mixed_precision=mixed, cpu=device == "cpu")
    reset_peak_memory()
    seed_everything(0)
    labels = TASKS[config.task.family](config.task).num_labels
    model, head = empty_model(asdict(config.model), labels, config.task.kind, device=device)
    model.train()
    method = METHODS[config.method.name](config.method)
    model = method.adapt(model, adapt_context(config, method, head, steps)).to(device)
    reset_peak_memory()
    examples = made_examples(config, (steps + WARM_UP) * config.trainer.batch_size)
    seconds = _timed(config, method, model, head, examples, accelerator, steps)
    peak = peak_memory()
    return Observation(
        name or f"rehearsal: {config.task.name} {config.model.name} {config.method.name}",
        device_name(),
        asdict(config),
        {"step": median(seconds)},
        1,
        peak["device"],
        peak["host"],
        batch_of(config, examples, steps),
        f"{len(seconds)} steps, random weights, {max(seconds):.4g} s the slowest; "
        + ", ".join(f"{k} {v}" for k, v in package_versions().items() if k in ("torch", "transformers", "peft")),
    )


def stand_in(config: RunConfig, steps: int) -> RunConfig:
    """The config that is rehearsed: its steps, a record of each, and LoRA for methods that start from data."""
    from ..methods import METHODS

    trainer = replace(config.trainer, max_steps=steps + WARM_UP, log_every=1, evaluate_every=None, packing=False)
    config = replace(config, trainer=trainer)
    if not METHODS[config.method.name].calibrated:
        return config
    known = asdict(config.method)
    lora = METHODS["lora"].Config
    shared = {key: known[key] for key in ("rank", "alpha", "dropout", "target_modules", "learning_rate")}
    return replace(config, method=lora(name="lora", **shared))


def made_examples(config: RunConfig, count: int) -> list[dict[str, Any]]:
    """Encoded training examples with the lengths of the task (a Gaussian, cut at its longest), drawn from seed 0."""
    import numpy as np

    lengths: Lengths = lengths_of(config.task.name, asdict(config.task))
    random = np.random.default_rng(0)
    most = int(min(lengths.longest, config.task.max_length))
    drawn = random.normal(lengths.mean, lengths.std, count).round().clip(4, most).astype(int)
    high = min(config.model.vocab_size, 30_000)
    generates = config.task.kind == "generation"
    share = lengths.prompt / max(lengths.prompt + lengths.answer, 1)
    found = []
    for number, length in enumerate(drawn.tolist()):
        ids = random.integers(FIRST_TOKEN, high, length).tolist()
        prompt = min(length - 1, round(share * length))
        label = [-100] * prompt + ids[prompt:] if generates else float(number % 2)
        if config.task.kind == "classification":
            label = number % 2
        found.append({"input_ids": ids, "attention_mask": [1] * length, "labels": label})
    return found


def batch_of(config: RunConfig, examples: list[dict[str, Any]], steps: int) -> dict[str, float]:
    """Rows and mean padded length of the measured micro-batches, and the longest row of all."""
    from ..batches import epoch_batches, split_batch

    lengths = [len(example["input_ids"]) for example in examples]
    trainer = config.trainer
    batches = epoch_batches(lengths, trainer.batch_size, config.seed, 0, group=trainer.group_by_length)
    parts = [part for batch in batches[WARM_UP:] for part in split_batch(batch, trainer.accumulation) if part]
    rows = sum(map(len, parts)) / len(parts)
    padded = sum(len(part) * max(lengths[i] for i in part) for part in parts) / sum(map(len, parts))
    return {"rows": rows, "length": padded, "longest": float(max(lengths))}


class _Padding:
    padding_side, pad_token_id, pad_token_type_id = "right", 0, 0


def _timed(
    config: RunConfig, method: Any, model: Any, head: list[str], examples: Any, accelerator: Any, steps: int
) -> list[float]:
    import torch

    from ..checkpoint import CheckpointFolder
    from ..progress import Progress
    from ..training import Trainer

    moments: list[float] = []

    def log(event: dict[str, Any]) -> None:  # the losses of the record were read: the device is done
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        moments.append(time.perf_counter())
        if len(moments) == steps + WARM_UP:
            raise Enough

    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            config.trainer,
            method,
            model,
            examples,
            _Padding(),
            accelerator=accelerator,
            head=head,
            seed=config.seed,
            metric="none",
            evaluate=lambda: {"none": 0.0},
            log=log,
            checkpoints=CheckpointFolder(Path(folder)),
            progress=Progress(show=False),
        )
        with suppress(Enough):
            trainer.fit(resume=False)
    measured = moments[WARM_UP - 1 :]
    return [after - before for before, after in pairwise(measured)]
