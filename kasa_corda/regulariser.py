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
    stop: int

    def stack(self, tensors: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
        return torch.stack(tuple(tensors[self.start : self.stop])).to(dtype)


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
        for (kind, _), same in by_shape.items():
            self.groups.append(_Group(kind, len(self.tensors), len(self.tensors) + len(same)))
            self.tensors += same

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
            total = self._zero()
            for group in self.groups:
                M = group.stack(self.tensors, self.dtype)
                value, slope = self._penalty(M, group.kind)
                total += value
                wanted = [i for i in range(group.start, group.stop) if self.tensors[i].requires_grad]
                if wanted:
                    parts = self._gradient(M, slope, group.kind, scale).to(self.tensors[group.start].dtype).unbind()
                    _accumulate([self.tensors[i] for i in wanted], [parts[i - group.start] for i in wanted])
        return total

    def _zero(self) -> Tensor:
        return torch.zeros((), dtype=self.dtype, device=self.tensors[0].device)

    def _penalty(self, M: Tensor, kind: str) -> tuple[Tensor, Tensor]:
        """The weighted penalty of the stacked M, and a slope from which ``_gradient`` makes its gradient.

        The large Gram is never formed: ||A' A - I_in||^2 = ||A A' - I_r||^2 + in - r exactly.
        """
        if kind == "core":
            return self.beta * M.square().sum(), M
        deviation = _gram(M, kind)
        deviation.diagonal(dim1=1, dim2=2).sub_(1)
        squared = deviation.square().sum(dim=(1, 2))
        if self.form.large_gram:
            n_less_r = M.shape[2] - M.shape[1] if kind == "A" else M.shape[1] - M.shape[2]
            squared = squared + n_less_r
        if self.form.squared:
            return self.gamma * squared.sum(), deviation.mul_(4)
        norm = squared.sqrt()
        # at an exactly orthonormal factor the norm has no derivative; its subgradient 0 keeps training finite
        return self.gamma * norm.sum(), deviation.mul_(
            (2 / norm.clamp_min(torch.finfo(norm.dtype).tiny))[:, None, None]
        )

    def _gradient(self, M: Tensor, slope: Tensor, kind: str, upstream: float | Tensor) -> Tensor:
        if kind == "core":
            return M * (upstream * (2 * self.beta))
        scaled = slope * (upstream * self.gamma)
        return torch.bmm(scaled, M) if kind == "A" else torch.bmm(M, scaled)


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


def _accumulate(parameters: list[Tensor], gradients: list[Tensor]) -> None:
    """As autograd does: into the gradient that is there, else as the gradient."""
    present = [(p.grad, g) for p, g in zip(parameters, gradients, strict=True) if p.grad is not None]
    if present:
        torch._foreach_add_([grad for grad, _ in present], [g for _, g in present])
    if len(present) < len(parameters):
        for parameter, gradient in zip(parameters, gradients, strict=True):
            if parameter.grad is None:
                parameter.grad = gradient


class _Loss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, plan: Regulariser, *tensors: Tensor) -> Tensor:
        with torch.autocast(tensors[0].device.type, enabled=False):
            total = plan._zero()
            slopes = []
            for group in plan.groups:
                value, slope = plan._penalty(group.stack(tensors, plan.dtype), group.kind)
                total += value
                slopes.append(slope)
        ctx.plan = plan
        ctx.save_for_backward(*slopes, *tensors)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        plan: Regulariser = ctx.plan
        slopes, tensors = ctx.saved_tensors[: len(plan.groups)], ctx.saved_tensors[len(plan.groups) :]
        needed = ctx.needs_input_grad[1:]
        grads: list[Tensor | None] = [None] * len(tensors)
        with torch.autocast(upstream.device.type, enabled=False):
            for group, slope in zip(plan.groups, slopes, strict=True):
                if any(needed[group.start : group.stop]):
                    grad = plan._gradient(group.stack(tensors, plan.dtype), slope, group.kind, upstream)
                    grads[group.start : group.stop] = grad.to(tensors[group.start].dtype).unbind()
        return None, *(g if wanted else None for g, wanted in zip(grads, needed, strict=True))
