"""NaN and infinity in the loss or the gradient (``trainer.nonfinite``).

Such a step is never applied. Whether a step is one stays on the device, where the optimizer reads it, until the loop
reads its losses anyway: no step waits for the host. Under fp16 an infinite gradient of a finite loss is the scaler's
overflow, which it answers with a smaller scale; it is counted apart, and is no longer one once the scale is at 1.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from .errors import DIVERGED, Diverged

if TYPE_CHECKING:
    from accelerate import Accelerator

IN_A_ROW = 20
"""steps without a usable gradient, one after the other, that end a run whatever ``trainer.nonfinite`` says: every one
saw other examples, so that the weights are the cause and will stay it"""
FILE = "nonfinite.jsonl"
OVERFLOW = "overflow"


@dataclass(frozen=True)
class Skipped:
    """A step that was not applied."""

    step: int
    """of the optimizer, from 1"""
    what: str
    """loss, gradient or overflow (fp16)"""
    loss: float
    batch: list[int]
    """indices of its training examples"""


@dataclass(frozen=True)
class _Step:
    step: int
    batch: list[int]
    loss: torch.Tensor
    marks: torch.Tensor
    """(3,) of 0 or 1: loss, gradient, overflow"""


class NonFinite:
    """Marks steps on the device, and tells of them when asked."""

    def __init__(self, accelerator: Accelerator) -> None:
        self.accelerator = accelerator
        self.steps: list[_Step] = []

    def in_loss(self, loss: torch.Tensor) -> torch.Tensor:
        """Whether the loss of any process is NaN or infinite; a boolean scalar on the device."""
        wrong = ~torch.isfinite(loss)
        if self.accelerator.num_processes == 1:
            return wrong
        return self.accelerator.reduce(wrong.float(), "sum") > 0  # type: ignore[no-any-return]

    def marked(self, step: int, batch: list[int], loss: torch.Tensor, in_loss: torch.Tensor, norm: torch.Tensor) -> Any:
        """Note a step, ``norm`` being that of its gradient. Returns 1. or 0. on the device: whether to leave it out."""
        wrong = ~torch.isfinite(norm) & ~in_loss
        overflow = torch.zeros_like(wrong)
        if (scaler := self.accelerator.scaler) is not None:
            overflow = wrong & (scaler.scale(torch.ones((), device=norm.device)) > 1)
            wrong = wrong & ~overflow
        marks = torch.stack([in_loss, wrong, overflow]).float()
        self.steps.append(_Step(step, batch, loss.detach(), marks))
        return marks.amax()

    def read(self) -> list[Skipped]:
        """The steps since the last call that were left out; waits for the device once."""
        steps, self.steps = self.steps, []
        if not steps:
            return []
        marks = torch.stack([each.marks for each in steps]).tolist()
        if not any(map(any, marks)):
            return []
        losses = self.accelerator.reduce(torch.stack([each.loss for each in steps]), "sum").tolist()
        found = zip(steps, marks, losses, strict=True)
        kinds = ("loss", "gradient", OVERFLOW)
        return [Skipped(s.step, kinds[m.index(1.0)], loss, s.batch) for s, m, loss in found if any(m)]


def gradient_norm(parameters: Iterable[torch.Tensor], device: torch.device) -> torch.Tensor:
    """The Euclidean norm of all gradients together, not finite if one number isn't; a scalar on the device.

    On a CPU it is ten times faster than the largest absolute value. It overflows above 1e19, as Adam's squares do.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    return torch.nn.utils.get_total_norm(gradients) if gradients else torch.zeros((), device=device)


def spoil(parameters: Iterable[torch.Tensor], wrong: torch.Tensor) -> None:
    """Make a gradient infinite where ``wrong``: the fp16 scaler looks at gradients only, not at the loss."""
    for parameter in parameters:
        if parameter.grad is not None:
            parameter.grad.add_(torch.where(wrong, math.inf, 0.0).to(parameter.grad.dtype))
            return


def step_unless(skip: torch.Tensor, optimizer: Any, scaler: Any) -> None:
    """The optimizer's step, unless ``skip`` is 1.

    torch's fused optimizers read it on the device, as they do for the fp16 scaler, which decides by itself. Others
    (those of a CPU, PEFT's LoRA-FA) have to be told by the host.

    optimizer: as accelerate wraps it
    """
    inner = optimizer.optimizer
    if scaler is not None:
        optimizer.step()
    elif getattr(inner, "_step_supports_amp_scaling", False):
        inner.grad_scale, inner.found_inf = None, skip
        try:
            optimizer.step()
        finally:
            del inner.grad_scale, inner.found_inf
    elif not skip.item():
        optimizer.step()


def finite(tensors: Iterable[torch.Tensor]) -> bool:
    """Whether every value is finite. Waits for the device."""
    values = [tensor.detach() for tensor in tensors if tensor.is_floating_point() and tensor.numel()]
    return not values or math.isfinite(torch.nn.utils.get_total_norm(values).item())


def diverged(step: int, what: str, learning_rate: float) -> Diverged:
    """What to say of a run that can't go on. ``what``: 'the loss became nan'."""
    return Diverged(
        f"{DIVERGED} {step}: {what}; lower trainer.learning_rate ({learning_rate:g}), use trainer.clip=1 or"
        " trainer.precision=fp32"
    )


def batch_log(path: Path, ids: Sequence[str]) -> Callable[[Skipped], None]:
    """The call that adds one line to ``nonfinite.jsonl``: step, what was not finite, loss, ids of the examples.

    ids: of the training examples, in their order
    """

    def note(skipped: Skipped) -> None:
        row: dict[str, Any] = {
            "step": skipped.step,
            "what": skipped.what,
            "loss": skipped.loss if math.isfinite(skipped.loss) else str(skipped.loss),  # JSON has neither nan nor inf
            "examples": [ids[i] for i in skipped.batch],
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    return note
