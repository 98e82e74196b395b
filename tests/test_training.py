"""The loop's loss: parts of a batch count by the tokens they teach, also when they teach none."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from small_language_model import byte_tokenizer, small_llama

from kasa_corda import adapt
from kasa_corda.batches import IGNORED
from kasa_corda.checkpoint import CheckpointFolder
from kasa_corda.config import TrainerConfig
from kasa_corda.errors import DataError
from kasa_corda.methods import METHODS
from kasa_corda.methods.base import AdaptContext
from kasa_corda.progress import Progress
from kasa_corda.training import Trainer

LENGTH = 12


def example(taught: int, start: int = 0) -> dict[str, Any]:
    """Twelve tokens of which the last ``taught`` are labels."""
    ids = [2 + (start * 7 + i) % 200 for i in range(LENGTH)]
    return {
        "input_ids": ids,
        "attention_mask": [1] * LENGTH,
        "labels": [IGNORED] * (LENGTH - taught) + ids[LENGTH - taught :],
    }


def trainer(folder: Path, encoded: list[dict[str, Any]], events: list[dict[str, Any]], **changes: Any) -> Trainer:
    options = {"learning_rate": 1e-2, "batch_size": len(encoded), "max_steps": 2, "warmup": 0, "log_every": 1}
    method = METHODS["lora"](METHODS["lora"].Config(name="lora"))
    base = small_llama()
    targets = [name for name, module in base.named_modules() if name.endswith(("q_proj", "v_proj"))]
    torch.manual_seed(0)
    model = method.adapt(base, AdaptContext(targets, [], "CAUSAL_LM", 0, 2))
    return Trainer(
        TrainerConfig(**options | changes),
        method,
        model,
        encoded,
        byte_tokenizer(),
        accelerator=Accelerator(cpu=True),
        head=[],
        seed=0,
        metric="m",
        evaluate=lambda: {"m": 0.0},
        log=events.append,
        checkpoints=CheckpointFolder(folder),
        progress=Progress(show=False),
    )


def losses_and_weights(
    folder: Path, encoded: list[dict[str, Any]], **changes: Any
) -> tuple[list[float], dict[str, torch.Tensor]]:
    events: list[dict[str, Any]] = []
    fitted = trainer(folder, encoded, events, **changes)
    fitted.fit(resume=False)
    losses = [event["task_loss"] for event in events if event["event"] == "train"]
    return losses, {name: tensor.clone() for name, tensor in fitted.method.trained_state(fitted.bare).items()}


@pytest.mark.parametrize("accumulation", [2, 4])
def test_parts_without_a_label_add_nothing_however_the_batch_is_split(tmp_path, accumulation):
    mixed = [example(5), example(2, 1), example(0, 2), example(0, 3)]
    whole, weights = losses_and_weights(tmp_path / "whole", mixed)
    split, split_weights = losses_and_weights(tmp_path / "split", mixed, accumulation=accumulation)
    taught, taught_weights = losses_and_weights(tmp_path / "taught", mixed[:2])
    assert split == pytest.approx(whole, rel=1e-5) and taught == pytest.approx(whole, rel=1e-5)
    for name, tensor in weights.items():
        torch.testing.assert_close(split_weights[name], tensor, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(taught_weights[name], tensor, rtol=1e-4, atol=1e-6)


def test_a_batch_without_a_label_changes_nothing(tmp_path):
    events: list[dict[str, Any]] = []
    one = trainer(tmp_path, [example(0), example(3, 1)], events, batch_size=1, max_steps=1)
    before = copy.deepcopy(one.method.trained_state(one.bare))
    loss, auxiliary, examples, tokens = one._step([0])
    assert (loss.item(), auxiliary.item(), examples, tokens) == (0.0, 0.0, 1, LENGTH)
    for name, tensor in one.method.trained_state(one.bare).items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)


def test_data_without_any_label_is_refused_before_training(tmp_path):
    with pytest.raises(DataError, match="none of the 2 training examples has a token to learn"):
        trainer(tmp_path, [example(0), example(0, 1)], [])


@pytest.mark.parametrize("method", ["lora", "pissa", "corda_kpa", "corda_ipa"])
def test_a_bfloat16_base_is_trained_in_float32_and_starts_unchanged_up_to_its_rounding(method):
    ids = torch.arange(2, 34).reshape(2, 16)
    calibration = [{"input_ids": ids + 40 * i, "attention_mask": torch.ones_like(ids)} for i in range(5)]
    options = {"calibration": calibration} if method.startswith("corda") else {}
    exact, base = small_llama(), small_llama().bfloat16()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        rounded = base(ids).logits.float()
        rounding = (rounded - exact(ids).logits.float()).norm()
    model = adapt(base, method, target_modules="all_linear", rank=4, alpha=4, **options).model
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}
    assert {p.dtype for p in model.parameters() if not p.requires_grad} == {torch.bfloat16}
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert (model(ids).logits.float() - rounded).norm() <= 2 * rounding
