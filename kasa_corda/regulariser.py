"""KaSA's auxiliary loss: L2 on the singular values, orthogonality of A and B (paper Eq. 9-12).

Value and gradient are closed forms on r x r matrices, computed for all layers of one shape in a few
launches, in float32 whatever autocast says, without reading anything back from the device.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

Adapter = tuple[Tensor, Tensor, Tensor]
"""A (r, in), core sigma (r,) or dense (r, r), B (out, r)"""


@dataclass(frozen=True)
class Form:
    """How the two penalties are put together; see ``kasa_corda.kasa.presets.Switches``."""

    mean: bool = False
    """over the layers, instead of the sum"""
    large_gram: bool = False
    """A' A and B B' against the identity, instead of A A' and B' B"""
    squared: bool = False
    """squared Frobenius norm of the orthogonality penalty"""


FORMS = {
    "paper": Form(),
    "peft": Form(),
    "authors": Form(mean=True, large_gram=True),
    "authors_first": Form(mean=True, large_gram=True),
}


def kasa_regulariser(adapters: Sequence[Adapter], beta: float, gamma: float, variant: str = "paper") -> Tensor:
    """beta * sum sigma^2 + gamma * sum (||A A' - I|| + ||B' B - I||), a float32 scalar (float64 for float64 input).

    adapters: per layer A (r, in), sigma (r,) or a dense core (r, r), B (out, r).
    variant ``paper`` and ``peft``: r x r Grams, summed over layers (huggingface/peft 0.21).
    variant ``authors`` and ``authors_first``: in x in and out x out Grams, averaged over layers (juyongjiang/KaSA).
    """
    if variant not in FORMS:
        raise ValueError(f"variant {variant!r} is not one of {tuple(FORMS)}")
    return Regulariser(adapters, beta, gamma, FORMS[variant])()


@dataclass(frozen=True)
class _Group:
    """Parameters of one kind and shape, to be stacked."""

    kind: str
    """A (r, n), B (n, r), or core"""
    start: int
    tensors: tuple[Tensor, ...]

    @property
    def stop(self) -> int:
        return self.start + len(self.tensors)

    @property
    def excess(self) -> int:
        """n - r of a factor."""
        return abs(self.tensors[0].shape[0] - self.tensors[0].shape[1])


class Regulariser:
    """The auxiliary loss of a fixed set of parameters. Every call reads their current values."""

    def __init__(self, adapters: Sequence[Adapter], beta: float, gamma: float, form: Form) -> None:
        if not adapters:
            raise ValueError("no KaSA adapter given")
        share = 1 / len(adapters) if form.mean else 1.0
        self.beta, self.gamma, self.form = beta * share, gamma * share, form
        self.dtype = torch.promote_types(torch.float32, adapters[0][0].dtype)
        by_shape: dict[tuple[str, torch.Size], list[Tensor]] = defaultdict(list)
        for A, core, B in adapters:
            for kind, tensor in (("A", A), ("core", core), ("B", B)):
                by_shape[kind, tensor.shape].append(tensor)
        self.tensors: list[Tensor] = []
        self.groups: list[_Group] = []
        by_rank: dict[int, list[int]] = defaultdict(list)
        for (kind, shape), same in by_shape.items():
            if kind != "core":
                by_rank[min(shape)].append(len(self.groups))
            self.groups.append(_Group(kind, len(self.tensors), tuple(same)))
            self.tensors += same
        self.of_one_rank = list(by_rank.values())
        """indices of the groups whose Grams have one size, so that what follows runs on all of them at once"""

    def __call__(self) -> Tensor:
        """The loss, differentiable by autograd."""
        value: Tensor = _Loss.apply(self, *self.tensors)  # type: ignore[no-untyped-call]
        return value

    @torch.no_grad()
    def add_gradient(self, scale: float | Tensor = 1.0) -> Tensor:
        """Add ``scale`` times the gradient to ``.grad`` of every trainable parameter; the loss itself is returned.

        What ``backward`` would do, but the engine doesn't visit hundreds of parameters one by one, and no gradient is
        held while the task's activations still fill the memory.
        """
        with torch.autocast(self.tensors[0].device.type, enabled=False):
            stacks = self._stacks(self.tensors)
            total, slopes = self._penalties(stacks)
            for group, M, slope in zip(self.groups, stacks, slopes, strict=True):
                if any(tensor.requires_grad for tensor in group.tensors):
                    _accumulate(group.tensors, self._gradient(M, slope, group, scale).unbind())
        return total

    def _stacks(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        return [torch.stack(tuple(tensors[group.start : group.stop])).to(self.dtype) for group in self.groups]

    def _penalties(self, stacks: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """The loss, and per group a slope from which ``_gradient`` makes its gradient.

        The large Gram is never formed: ||A' A - I_in||^2 = ||A A' - I_r||^2 + in - r exactly.
        """
        slopes = list(stacks)
        values = [self.beta * stacks[i].square().sum() for i, group in enumerate(self.groups) if group.kind == "core"]
        for members in self.of_one_rank:
            groups = [self.groups[i] for i in members]
            deviation = torch.cat([_gram(stacks[i], group.kind) for i, group in zip(members, groups, strict=True)])
            deviation.diagonal(dim1=1, dim2=2).sub_(1)
            squared = deviation.square().sum(dim=(1, 2))
            sizes = [len(group.tensors) for group in groups]
            if self.form.large_gram:
                for part, group in zip(squared.split(sizes), groups, strict=True):
                    part += group.excess
            if self.form.squared:
                values.append(self.gamma * squared.sum())
                deviation *= 4
            else:
                norm = squared.sqrt()
                values.append(self.gamma * norm.sum())
                # at an exactly orthonormal factor the norm has no derivative; its subgradient 0 keeps training finite
                deviation *= (2 / norm.clamp_min(torch.finfo(norm.dtype).tiny))[:, None, None]
            for i, slope in zip(members, deviation.split(sizes), strict=True):
                slopes[i] = slope
        return torch.stack(values).sum(), slopes

    def _gradient(self, M: Tensor, slope: Tensor, group: _Group, upstream: float | Tensor) -> Tensor:
        """The stacked gradient in the parameters' type."""
        if group.kind == "core":
            gradient = M * (upstream * (2 * self.beta))
        else:
            scaled = slope * (upstream * self.gamma)
            gradient = torch.bmm(scaled, M) if group.kind == "A" else torch.bmm(M, scaled)
        return gradient.to(group.tensors[0].dtype)


def _gram(M: Tensor, kind: str) -> Tensor:
    """A A' or B' B of the stacked M, (layers, r, r).

    Summed in blocks of the long side: near orthonormal factors the identity cancels all but the last digits, and one
    running sum over thousands of products would have rounded them away. On a GPU it is faster as well.
    """
    layers, rows, columns = M.shape
    long = columns if kind == "A" else rows
    block = next((size for size in (128, 96, 64) if long % size == 0), long)
    if kind == "A":
        parts = M.view(layers, rows, -1, block).transpose(1, 2)  # (layers, blocks, r, block)
        return torch.matmul(parts, parts.transpose(2, 3)).sum(1)
    parts = M.view(layers, -1, block, columns)  # (layers, blocks, block, r)
    return torch.matmul(parts.transpose(2, 3), parts).sum(1)


def _accumulate(parameters: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
    """As autograd does: into the gradient that is there, else as the gradient; frozen parameters get none."""
    present, added = [], []
    for parameter, gradient in zip(parameters, gradients, strict=True):
        grad = parameter.grad
        if grad is not None:
            present.append(grad)
            added.append(gradient)
        elif parameter.requires_grad:
            parameter.grad = gradient
    if present:
        torch._foreach_add_(present, added)


class _Loss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, plan: Regulariser, *tensors: Tensor) -> Tensor:
        with torch.autocast(tensors[0].device.type, enabled=False):
            stacks = plan._stacks(tensors)
            total, slopes = plan._penalties(stacks)
        # a core's slope is its stack, made anew from the saved parameters
        kept = [slope for slope, group in zip(slopes, plan.groups, strict=True) if group.kind != "core"]
        ctx.plan = plan
        ctx.save_for_backward(*kept, *tensors)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        plan: Regulariser = ctx.plan
        kept, tensors = ctx.saved_tensors[: -len(plan.tensors)], ctx.saved_tensors[-len(plan.tensors) :]
        slopes = iter(kept)
        needed = ctx.needs_input_grad[1:]
        grads: list[Tensor | None] = [None] * len(tensors)
        with torch.autocast(upstream.device.type, enabled=False):
            for group, M in zip(plan.groups, plan._stacks(tensors), strict=True):
                slope = M if group.kind == "core" else next(slopes)
                if any(needed[group.start : group.stop]):
                    grads[group.start : group.stop] = plan._gradient(M, slope, group, upstream).unbind()
        return None, *(g if wanted else None for g, wanted in zip(grads, needed, strict=True))
