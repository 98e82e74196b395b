"""The transformer blocks of any model: where they are, what they are called with, and standing in for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import KasaCordaError
from ..models.key_values import NAMES as CACHE_NAMES
from .collect import Batch, inputs_of
from .hidden import HiddenStates

PROBE_TOKENS = 8


class NotStreamableError(KasaCordaError):
    """The blocks can't be run one after the other by hand; collect covariances of the whole model instead."""


@dataclass
class Blocks:
    """A model's stack of blocks."""

    prefix: str
    """module name of the stack"""
    modules: list[nn.Module]
    outputs: int
    """length of the tuple that a block returns; 0 if it returns the hidden states themselves"""

    def names(self) -> list[str]:
        return [f"{self.prefix}.{index}" for index in range(len(self.modules))]

    def wrap(self, hidden: Tensor) -> Any:
        """Hidden states as a block would return them."""
        return (hidden, *[None] * (self.outputs - 1)) if self.outputs else hidden


@dataclass
class Call:
    """What a block is called with besides its hidden states."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def run(self, block: nn.Module, hidden: Tensor) -> Tensor:
        """The block's output hidden states."""
        return first(block(hidden, *moved(self.args, hidden.device), **moved(self.kwargs, hidden.device)))


class StopForward(Exception):
    """Ends a forward pass at the first block."""


def find_blocks(model: nn.Module, targets: Iterable[str], batch: Batch) -> Blocks:
    """The module list that holds most target layers, checked on a few tokens of ``batch``.

    NotStreamableError if there is none, if its modules don't run once each in order with one's output being the next
    one's only changing input, or if the config mixes layer types (a short probe can't tell their masks apart).
    """
    names = list(targets)
    stacks = {name: list(m) for name, m in model.named_modules() if isinstance(m, nn.ModuleList) and len(m)}
    held = {name: sum(layer.startswith(f"{name}.") for layer in names) for name in stacks}
    prefix = max(held, key=lambda name: (held[name], len(stacks[name])), default=None)
    if prefix is None or (names and not held[prefix]):
        raise _cannot("its target layers are in no list of blocks")
    if len(set(getattr(getattr(model, "config", None), "layer_types", None) or [])) > 1:
        raise _cannot("its blocks are of several types")
    return Blocks(prefix, stacks[prefix], _probe(model, stacks[prefix], batch))


def _probe(model: nn.Module, blocks: Sequence[nn.Module], batch: Batch) -> int:
    """Run a few tokens and check how the blocks hang together; returns ``Blocks.outputs``."""
    called: list[tuple[nn.Module, Tensor, Call, Any]] = []

    def record(block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        called.append((block, *split(args, kwargs), output))

    handles = [block.register_forward_hook(record, with_kwargs=True) for block in blocks]
    try:
        model(**inputs_of(model, _few_tokens(batch)))
    finally:
        for handle in handles:
            handle.remove()
    if [block for block, *_ in called] != list(blocks):
        raise _cannot("its blocks don't run once each in order")
    for (_, _, before, output), (_, hidden, after, _) in pairwise(called):
        if not same(first(output), hidden):
            raise _cannot("it changes the hidden states between its blocks")
        if not same(before.args, after.args) or not same(before.kwargs, after.kwargs):
            raise _cannot("it calls its blocks with different arguments")
    output = called[0][-1]
    return len(output) if isinstance(output, tuple) else 0


def capture(
    model: nn.Module, blocks: Blocks, batches: Sequence[Batch], device: torch.device, offload: str
) -> tuple[HiddenStates, list[Call]]:
    """The first block's hidden states and other arguments for every batch."""
    hidden, calls = HiddenStates(device, len(batches), offload), []

    def catch(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        state, call = split(args, kwargs)
        hidden.append(state)
        place = torch.device("cpu") if hidden.offloaded else device
        calls.append(Call(moved(call.args, place), moved(call.kwargs, place)))
        raise StopForward

    handle = blocks.modules[0].register_forward_pre_hook(catch, with_kwargs=True)
    try:
        for batch in batches:
            try:
                model(**inputs_of(model, batch))
            except StopForward:
                continue
    finally:
        handle.remove()
    return hidden, calls


@contextmanager
def replaced(blocks: Blocks, hidden: HiddenStates) -> Iterator[Callable[[int], None]]:
    """The model with its finished blocks left out: the first gives the final hidden states of the chosen batch.

    Yields the function that chooses the batch.
    """
    chosen = 0

    def choose(index: int) -> None:
        nonlocal chosen
        chosen = index

    def pass_on(*args: Any, **kwargs: Any) -> Any:
        state, _ = split(args, kwargs)
        return blocks.wrap(hidden[chosen].to(state.device))

    for block in blocks.modules:
        block.forward = pass_on  # type: ignore[method-assign]
    try:
        yield choose
    finally:
        for block in blocks.modules:
            del block.forward


def split(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Tensor, Call]:
    """A block's arguments as hidden states and the rest, without any key-value cache."""
    named = {name: value for name, value in kwargs.items() if name not in ("hidden_states", *CACHE_NAMES)}
    return (args[0], Call(args[1:], named)) if args else (kwargs["hidden_states"], Call((), named))


def first(output: Any) -> Tensor:
    return output[0] if isinstance(output, tuple) else output


def moved(value: Any, device: torch.device) -> Any:
    """The same nested tuples, lists and dicts with their tensors on ``device``."""
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, tuple | list):
        return type(value)(moved(item, device) for item in value)
    return {key: moved(item, device) for key, item in value.items()} if isinstance(value, dict) else value


def same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        # NaN counts as equal to itself: where it comes from is found by the covariances
        return one is other or (isinstance(other, Tensor) and torch.equal(one.nan_to_num(), other.nan_to_num()))
    if isinstance(one, tuple | list):
        return isinstance(other, tuple | list) and len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    return one is other or one == other


def _few_tokens(batch: Batch) -> dict[str, Tensor]:
    """The first tokens of the first sample, padding left out."""
    ids = batch["input_ids"]
    valid = batch.get("attention_mask", torch.ones_like(ids))[0].bool().nonzero()[:PROBE_TOKENS, 0]
    return {name: t[:1, valid] if t.shape[:2] == ids.shape else t[:1] for name, t in batch.items()}


def _cannot(reason: str) -> NotStreamableError:
    return NotStreamableError(f"this model can't be calibrated block by block: {reason}; use calibration.mode=whole")
