"""``dry_run=true``: what would run, found out on the meta device without touching weights or data."""

from __future__ import annotations

import contextlib
import io
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from .config import RunConfig
from .store import RunDirectory

if TYPE_CHECKING:
    from .methods.base import AdaptContext

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


def plan(config: RunConfig, directory: RunDirectory) -> dict[str, Any]:
    """Model, trainable parameters, steps, memory estimate and run directory of one run."""
    from .budget import choice_of

    examples, steps = planned_steps(config)
    context, counts = counted(config, steps or 0)
    choice = choice_of(config.method, counts["adapter"])
    return {
        "task": config.task.name,
        "model": config.model.name,
        "method": config.method.name,
        "layers": len(context.targets),
        **counts,
        "budget": choice and choice.text(),
        "examples": examples,
        "steps": steps,
        "memory_bytes": memory_estimate(config, counts["total"], counts["trainable"]),
        "run_dir": str(directory.path),
        "state": directory.state(),
    }


def counted(config: RunConfig, steps: int) -> tuple[AdaptContext, dict[str, int]]:
    """What the method knows of the run, and ``count_parameters`` of the configured model without its weights."""
    import torch

    from .methods import METHODS
    from .methods.base import count_parameters
    from .models.loading import empty_model
    from .pipeline import adapt_context
    from .tasks import TASKS

    task = TASKS[config.task.family](config.task)
    method = METHODS[config.method.name](config.method)
    model, head = empty_model(asdict(config.model), task.num_labels, config.task.kind)
    context = adapt_context(config, method, head, steps)
    with contextlib.redirect_stdout(io.StringIO()), torch.device("meta"):
        model = method.adapt(model, context)
    return context, count_parameters(model, head)


def planned_steps(config: RunConfig) -> tuple[int | None, int | None]:
    """Training examples and optimizer steps, None where only the data can tell."""
    from .training import total_steps

    examples = train_examples(config)
    return examples, total_steps(config.trainer, examples) if examples else config.trainer.max_steps


def train_examples(config: RunConfig) -> int | None:
    """Training examples by the published split sizes; None if they are not known."""
    known = config.task.sizes.get("train")
    if known is None:
        return config.task.train_examples
    carved = (
        min(config.task.held_out, known // 10)
        if config.selection == "held_out" and not {"validation", "test"} <= set(config.task.sizes)
        else 0
    )
    return min(known - carved, config.task.train_examples or known)


def memory_estimate(config: RunConfig, total: int, trainable: int) -> int:
    """Bytes: weights, gradients and AdamW moments of the trained part, activations of one forward pass.

    Activations follow Korthikanti et al. (arXiv 2205.05198, Eq. 2): tokens x hidden x (34 + 5 heads length / hidden)
    bytes per block in 16 bit, twice that in 32 bit; an upper bound, since all inputs are taken at max_length.
    """
    model, trainer = config.model, config.trainer
    weights = total * BYTES[model.dtype]
    training = trainable * (4 + 8)
    length = config.task.max_length
    tokens = length * trainer.batch_size // (trainer.accumulation * config.scale.devices)
    per_block = tokens * model.hidden_size * (34 + 5 * model.heads * length / model.hidden_size)
    blocks = 1 if trainer.gradient_checkpointing else model.layers
    width = 2 if trainer.precision == "fp32" else 1
    return int(weights + training + per_block * blocks * width)


def plan_text(found: dict[str, Any]) -> str:
    """The plan as lines a person reads."""
    steps = f"{found['steps']:,}" if found["steps"] else "unknown until the data is read"
    examples = f" over {found['examples']:,} training examples" if found["examples"] else ""
    budget = [f"budget      {found['budget']}"] if found["budget"] else []
    return "\n".join(
        (
            f"would run   {found['method']} on {found['task']} with {found['model']}",
            f"trains      {found['trainable']:,} parameters ({found['head']:,} in the task head) of {found['total']:,}"
            f" = {100 * found['trainable'] / found['total']:.3f} %, {found['layers']} adapted layers",
            *budget,
            f"steps       {steps}{examples}",
            f"memory      about {found['memory_bytes'] / 2**30:.1f} GiB at most (weights, optimizer, activations)",
            f"directory   {found['run_dir']} ({found['state']})",
        )
    )
