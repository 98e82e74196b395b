"""How much cheaper is KaSA's auxiliary loss, value and gradient, than the authors' large Grams and PEFT's loop?

    python benchmarks/kasa_aux_loss.py                  # 224 adapters of rank 32 in LLaMA-2-7B shape on a GPU
    python benchmarks/kasa_aux_loss.py --shape small    # 24 adapters of rank 8 in RoBERTa-base shape

Both peers run on the same parameters as ours; the answers are compared before anything is timed.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from types import SimpleNamespace

import torch
from harness import Result, Side, alternate, arguments, seconds
from torch import Tensor

from kasa_corda.regulariser import FORMS, Adapter, Regulariser

HIDDEN, INNER = 4096, 11008
SHAPES = {
    # (out, in) of the seven linear layers of each of 32 blocks
    "7b": (32, ([(HIDDEN, HIDDEN)] * 4 + [(INNER, HIDDEN)] * 2 + [(HIDDEN, INNER)]) * 32),
    "small": (8, [(768, 768)] * 24),
}
BETA, GAMMA = 1e-4, 1e-3
ROOM_FOR_ALL_GRAMS = 100 * 2**30


def make_adapters(rank: int, shapes: list[tuple[int, int]], device: str) -> list[Adapter]:
    """A as initialised, B as after some training."""
    generator = torch.Generator(device).manual_seed(0)

    def draw(*size: int, scale: float = 1.0) -> Tensor:
        return (torch.randn(size, generator=generator, device=device) * scale).requires_grad_()

    return [
        (draw(rank, inputs, scale=(3 * inputs) ** -0.5), draw(rank), draw(outputs, rank, scale=1e-2))
        for outputs, inputs in shapes
    ]


def authors_layer(adapter: Adapter) -> Tensor:
    """One layer's penalties with n x n Grams, from the formula of the authors' code."""
    A, sigma, B = adapter
    large = (A.T @ A, B @ B.T)
    identities = [torch.eye(len(gram), device=gram.device, dtype=gram.dtype) for gram in large]
    orthogonality = sum(torch.linalg.norm(gram - eye) for gram, eye in zip(large, identities, strict=True))
    return BETA * sigma.square().sum() + GAMMA * orthogonality


def authors(adapters: list[Adapter], *, at_once: bool) -> float | Tensor:
    """Value; gradients into .grad. Layer by layer where the Grams of all layers don't fit into memory together."""
    if at_once:
        total = torch.stack([authors_layer(adapter) for adapter in adapters]).sum() / len(adapters)
        total.backward()
        return total.detach()
    value = torch.zeros((), device=adapters[0][0].device)
    for adapter in adapters:
        part = authors_layer(adapter) / len(adapters)
        part.backward()
        value += part.detach()
    return value


def peft(adapters: list[Adapter]) -> Tensor:
    """PEFT's own function, layer by layer, summed as ``LoraModel._get_kasa_loss`` does."""
    from peft.tuners.lora.variants import _kasa_layer_regularization_loss

    modules = [
        SimpleNamespace(
            lora_A={"default": SimpleNamespace(weight=A)},
            lora_B={"default": SimpleNamespace(weight=B)},
            lora_diag={"default": sigma},
        )
        for A, sigma, B in adapters
    ]
    total = sum(_kasa_layer_regularization_loss(module, "default", BETA, GAMMA) for module in modules)
    total.backward()
    return total.detach()


def ours(adapters: list[Adapter], variant: str) -> Callable[[], Tensor]:
    return Regulariser(adapters, BETA, GAMMA, FORMS[variant]).add_gradient


def clear(adapters: list[Adapter]) -> None:
    """Empty gradients, as after ``zero_grad``."""
    for adapter in adapters:
        for tensor in adapter:
            tensor.grad = None


def answer(work: Callable[[], object], adapters: list[Adapter]) -> tuple[float, list[Tensor]]:
    """The value and every parameter's gradient, in float64."""
    clear(adapters)
    value = float(work())  # type: ignore[arg-type]
    return value, [tensor.grad.double() for adapter in adapters for tensor in adapter]


def exact_answer(adapters: list[Adapter]) -> tuple[float, list[Tensor]]:
    """The authors' form in float64, one layer at a time."""
    value, gradients = 0.0, []
    for adapter in adapters:
        wide = tuple(tensor.detach().double().requires_grad_() for tensor in adapter)
        part = authors_layer(wide) / len(adapters)
        gradients += torch.autograd.grad(part, wide)
        value += float(part.detach())
    return value, gradients


def apart(one: tuple[float, list[Tensor]], other: tuple[float, list[Tensor]]) -> tuple[float, float]:
    """Relative difference of the value, and the largest of any parameter's gradient."""
    gradient = max(float((a - b).norm() / b.norm()) for a, b in zip(one[1], other[1], strict=True))
    return abs(one[0] - other[0]) / abs(other[0]), gradient


def said(differences: tuple[float, float]) -> str:
    return f"value {differences[0]:.1e}, gradient {differences[1]:.1e}"


def main() -> None:
    on_gpu = torch.cuda.is_available()
    chosen = arguments(__doc__, shape="7b" if on_gpu else "small", pairs=9)
    device = "cuda" if on_gpu else "cpu"
    rank, shapes = SHAPES[chosen.shape]
    adapters = make_adapters(rank, shapes, device)
    at_once = not on_gpu or torch.cuda.mem_get_info()[0] > ROOM_FOR_ALL_GRAMS or chosen.shape == "small"

    fast, same_as_peft = ours(adapters, "authors"), ours(adapters, "peft")
    authors_form = lambda: authors(adapters, at_once=at_once)  # noqa: E731
    exact = exact_answer(adapters)
    agreement = apart(answer(fast, adapters), exact)
    authors_own = apart(answer(authors_form, adapters), exact)
    with_peft = apart(answer(same_as_peft, adapters), answer(lambda: peft(adapters), adapters))
    del exact

    empty = lambda: clear(adapters)  # noqa: E731
    fast_seconds, authors_seconds = alternate(fast, authors_form, chosen.pairs, before=empty)
    ours_again, peft_seconds = alternate(same_as_peft, lambda: peft(adapters), chosen.pairs, before=empty)
    numbers = torch.zeros(sum(t.numel() for adapter in adapters for t in adapter), device=device)
    target = torch.empty_like(numbers)
    floor = [seconds(lambda: target.copy_(numbers)) for _ in range(chosen.pairs + 1)][1:]

    ratio = statistics.median(authors_seconds) / statistics.median(fast_seconds)
    wanted = 100 if chosen.shape == "7b" else 10
    notes = [
        "all sides start from empty gradients; emptying them isn't counted",
        f"memory floor: reading every parameter and writing its gradient once, {statistics.median(floor):.2e} s;"
        f" ours takes {statistics.median(fast_seconds) / statistics.median(floor):.1f} times that",
        f"against PEFT's loop (its own preset): {statistics.median(peft_seconds) / statistics.median(ours_again):.1f}"
        f" times cheaper, apart by {said(with_peft)}",
        f"the authors' own float32 form is apart from float64 by {said(authors_own)}: its large sums round",
    ]
    if not at_once:
        notes.append("the Grams of all layers don't fit into this GPU together: the authors' form ran layer by layer")
    Result(
        name="kasa_aux_loss_7b" if on_gpu and chosen.shape == "7b" else f"kasa_aux_loss_{chosen.shape}_{device}",
        question=f"KaSA's auxiliary loss, value and gradient, {len(shapes)} adapters of rank {rank}"
        f" ({chosen.shape} shape): how much cheaper than the authors' form?",
        sides={
            "ours": Side("r x r Grams stacked by shape, closed-form gradient", fast_seconds),
            "authors": Side("n x n Grams as in the authors' code, written from the formula", authors_seconds),
            "peft": Side("peft's r x r loss, layer by layer", peft_seconds),
            "floor": Side("one copy of all parameters", floor),
        },
        same_answer=f"ours in float32 against the authors' form in float64, relative: {said(agreement)}",
        ratio=ratio,
        target=f"at least {wanted} times cheaper than the authors' form, value and gradient within 1e-5",
        holds=ratio >= wanted and max(agreement) <= 1e-5,
        notes=notes,
    ).write(chosen.out)


if __name__ == "__main__":
    main()
