"""What our training loop costs over a bare script: same model, data order, optimizer and steps, five pairs.

python benchmarks/overhead.py [--steps 40] [--method lora] [--model minilm]
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import harness
import torch

from kasa_corda.batches import Collator, epoch_batches
from kasa_corda.checkpoint import CheckpointFolder
from kasa_corda.cli.compose import composed
from kasa_corda.config import RunConfig
from kasa_corda.pipeline import Parts, Place, assemble, start
from kasa_corda.progress import Progress
from kasa_corda.seeds import seed_everything
from kasa_corda.store import RunDirectory
from kasa_corda.training import Trainer

LIMIT = 1.03


def bare(config: RunConfig, parts: Parts, device: torch.device) -> list[float]:
    """The loop a person would write by hand; the loss of every step."""
    from transformers import get_scheduler

    trainable = [p for p in parts.model.parameters() if p.requires_grad]
    fused = device.type == "cuda" or None
    optimizer = torch.optim.AdamW(trainable, lr=config.trainer.learning_rate, weight_decay=0.0, fused=fused)
    total = config.trainer.max_steps or 0
    scheduler = get_scheduler("linear", optimizer, num_warmup_steps=0, num_training_steps=total)
    collate = Collator(parts.loaded.tokenizer)
    lengths = [len(example["input_ids"]) for example in parts.encoded]
    batches = epoch_batches(lengths, config.trainer.batch_size, config.seed, 0, group=True)
    losses = []
    parts.model.train()
    for batch in batches[:total]:
        inputs = {k: t.to(device, non_blocking=True) for k, t in collate([parts.encoded[i] for i in batch]).items()}
        loss = parts.model(**inputs).loss
        loss.backward()
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.detach())
    return torch.stack(losses).tolist()


def ours(config: RunConfig, parts: Parts, place: Place) -> list[float]:
    """The same steps through our Trainer, with its records and its final checkpoint; the loss of every record."""
    losses: list[float] = []

    def log(event: dict[str, Any]) -> None:
        if event["event"] == "train":
            losses.append(event["task_loss"])

    with tempfile.TemporaryDirectory() as folder:
        Trainer(
            config.trainer,
            parts.method,
            parts.model,
            parts.encoded,
            parts.loaded.tokenizer,
            accelerator=place.accelerator,
            head=parts.loaded.head,
            seed=config.seed,
            metric="none",
            evaluate=lambda: {"none": 0.0},
            log=log,
            checkpoints=CheckpointFolder(Path(folder)),
            progress=Progress(show=False),
        ).fit(resume=False)
    return losses


def from_the_start(parts: Parts, work: Callable[[], list[float]]) -> Callable[[], list[float]]:
    """``work`` from the same parameters and the same random draws each time."""
    state = {name: tensor.clone() for name, tensor in parts.method.trained_state(parts.model).items()}

    def again() -> list[float]:
        parts.method.restore(parts.model, state)
        seed_everything(0)
        return work()

    return again


def main() -> None:
    chosen = harness.arguments(__doc__, steps=40, method="lora", model="minilm", task="reviews", pairs=5)
    overrides = [f"method={chosen.method}", f"model={chosen.model}", f"task={chosen.task}"]
    overrides += [f"trainer.max_steps={chosen.steps}", "trainer.warmup=0"]
    exact, usual = composed([*overrides, "trainer.log_every=1"]), composed(overrides)
    place = start(usual)
    parts = assemble(usual, RunDirectory(Path(tempfile.mkdtemp())), place)
    device = place.accelerator.device

    hand = from_the_start(parts, lambda: bare(usual, parts, device))
    losses, expected = from_the_start(parts, lambda: ours(exact, parts, place))(), hand()
    difference = max(abs(a - b) for a, b in zip(losses, expected, strict=True))
    if difference > 1e-6:
        raise SystemExit(f"the two loops differ by {difference:.2e} in a loss; nothing was timed")

    loop = from_the_start(parts, lambda: ours(usual, parts, place))
    mine, peer = harness.alternate(loop, hand, pairs=chosen.pairs)
    sides = {"ours": harness.Side("kasa_corda.training.Trainer, default records and final checkpoint", mine)}
    sides["bare"] = harness.Side("a hand-written torch loop", peer)
    ratio = sides["ours"].median / sides["bare"].median
    harness.Result(
        name="overhead",
        question=f"What does our loop cost over a bare script? {chosen.model}, {chosen.method}, {chosen.task}, "
        f"{chosen.steps} steps of 32, fp32",
        sides=sides,
        same_answer=f"largest difference of a step's loss: {difference:.1e} over {len(losses)} steps (limit 1e-6)",
        ratio=ratio,
        target=f"ours / bare <= {LIMIT}",
        holds=ratio <= LIMIT,
        notes=["ratio is ours / bare: 1 is no overhead"],
    ).write(chosen.out)


if __name__ == "__main__":
    main()
