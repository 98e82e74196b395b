"""Hooks that feed layer inputs to accumulators; layers that read the same tensor share one."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from ..errors import KasaCordaError
from .covariance import Accumulator, BatchMask, Covariance, Moments


class Recorder:
    """Watches some layers during forward passes. Call ``begin`` with the mask before each batch."""

    def __init__(self, layers: Mapping[str, nn.Module], moments: Moments) -> None:
        self.layers = dict(layers)
        self.moments = moments
        self.accumulators: dict[str, Accumulator] = {}
        """leading layer of a group -> its accumulator, in the order of first use"""
        self.leader: dict[str, str] = {}
        """layer -> the layer whose input tensor it reads"""

    def begin(self, mask: BatchMask) -> None:
        self.mask = mask
        self.seen: set[str] = set()
        self.inputs: dict[str, tuple[weakref.ref[Tensor], int]] = {}

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Hooks on every layer, removed whatever happens."""
        handles = [
            layer.register_forward_pre_hook(self._hook(name), with_kwargs=True) for name, layer in self.layers.items()
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def covariances(self) -> dict[str, Covariance]:
        """Layer -> covariance; layers of one group share the object. KasaCordaError if a layer was never called."""
        missing = [name for name in self.layers if name not in self.leader]
        if missing:
            raise KasaCordaError(
                f"layer {missing[0]} was not called with one vector per token in the forward pass of the calibration"
                " samples; leave it out of method.target_modules"
            )
        finished = {leader: accumulator.finish() for leader, accumulator in self.accumulators.items()}
        return {name: finished[self.leader[name]] for name in self.layers}

    def _hook(self, name: str) -> Any:
        def record(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            x = args[0] if args else next(iter(kwargs.values()))
            # DeBERTa sends its position table through the key and query layers after the tokens
            if name in self.seen or not self.mask.fits(x):
                return
            self.seen.add(name)
            leader = self.leader.get(name)
            if leader is None:
                leader = self.leader[name] = self._same_tensor(x) or name
                if leader == name:
                    self.accumulators[name] = Accumulator(self.moments, name)
                else:
                    self.accumulators[leader].layers.append(name)
            if leader == name:
                self.inputs[name] = (weakref.ref(x), x._version)
                self.accumulators[name].add(x, self.mask)
            elif self._same_tensor(x) != leader:
                raise KasaCordaError(
                    f"layers {name} and {leader} read the same tensor in one batch and different ones in another;"
                    " collect their covariances in two calls"
                )

        return record

    def _same_tensor(self, x: Tensor) -> str | None:
        """The leading layer that has read this very tensor, unchanged, in this forward pass."""
        for leader, (reference, version) in self.inputs.items():
            if reference() is x and x._version == version:
                return leader
        return None


def resolve(model: nn.Module, targets: Iterable[str]) -> dict[str, nn.Module]:
    """Full name -> layer, in model order, for names that may lack leading parts; KasaCordaError if one is absent."""
    wanted = set(targets)
    found, used = {}, set()
    for name, module in model.named_modules():
        parts = name.split(".")
        match = next((end for i in range(len(parts)) if (end := ".".join(parts[i:])) in wanted), None)
        if match is not None:
            found[name] = module
            used.add(match)
    if wanted - used:
        raise KasaCordaError(f"the model has no layer {min(wanted - used)}")
    return found
