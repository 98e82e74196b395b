"""Covariances one transformer block at a time: extra memory is one block's, whatever the model's depth."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from ..progress import Progress
from .blocks import Call, capture, find_blocks, replaced
from .collect import Batch, evaluating, inputs_of, mask_of
from .covariance import BatchMask, Covariance, Moments
from .hidden import HiddenStates
from .hooks import Recorder, resolve

OUTSIDE = ""
"""the name under which layers outside all blocks are yielded, last"""


@dataclass
class BlockCovariances:
    """What one block's layers saw. The block stays on the computing device until the next one is asked for."""

    name: str
    """module name of the block, or OUTSIDE"""
    layers: dict[str, nn.Module]
    """full layer name -> target layer"""
    covariances: dict[str, Covariance]
    """empty for a finished block; emptied when the next block is asked for"""


@dataclass
class Block:
    """A block to stream: how its module is had, and what to do with it afterwards."""

    name: str
    load: Callable[[], nn.Module]
    release: Callable[[nn.Module], object] = lambda module: None


def stream(
    model: nn.Module,
    batches: Sequence[Batch],
    targets: Iterable[str],
    moments: Moments,
    *,
    device: torch.device | str | None = None,
    finished: Callable[[str], bool] = lambda block: False,
    offload: str = "auto",
    progress: Progress | None = None,
) -> Iterator[BlockCovariances]:
    """Yield each block's covariances in order, then those of target layers outside the blocks.

    ``device`` computes (default: where the model is); blocks that stand elsewhere are moved there and back. Blocks
    that are ``finished`` by name are pushed through without hooks. ``offload`` is auto, always or never
    (``HiddenStates``). The consumer may change a block once it was yielded: the next inputs come from the original.
    NotStreamableError for models whose blocks can't be run by hand.
    """
    found = resolve(model, targets)
    home = next(model.parameters()).device
    target = torch.device(device) if device is not None else home
    with evaluating(model):
        blocks = find_blocks(model, found, batches[0])
        hidden, calls = capture(model, blocks, batches, target, offload)
    masks = [mask_of(batch) for batch in batches]
    pairs = zip(blocks.names(), blocks.modules, strict=True)
    listed = [Block(name, _loader(module, target), _loader(module, home)) for name, module in pairs]
    inside = {block.name: [name for name in found if name.startswith(f"{block.name}.")] for block in listed}
    yield from stream_blocks(listed, hidden, calls, masks, inside, moments, finished=finished, progress=progress)

    outside = {name: layer for name, layer in found.items() if not any(name in names for names in inside.values())}
    if outside:
        recorder = Recorder({} if finished(OUTSIDE) else outside, moments)
        with evaluating(model), replaced(blocks, hidden) as choose, recorder.watching():
            for index, (batch, mask) in enumerate(zip(batches, masks, strict=True)):
                choose(index)
                recorder.begin(mask)
                model(**inputs_of(model, batch))
        yield BlockCovariances(OUTSIDE, outside, recorder.covariances())


def stream_blocks(
    blocks: Sequence[Block],
    hidden: HiddenStates,
    calls: Sequence[Call],
    masks: Sequence[BatchMask],
    targets: Mapping[str, Sequence[str]],
    moments: Moments,
    *,
    finished: Callable[[str], bool] = lambda block: False,
    progress: Progress | None = None,
) -> Iterator[BlockCovariances]:
    """The loop of ``stream`` for blocks that are made or read one at a time, so that a model may exceed all memory.

    ``hidden`` holds the first block's inputs, ``calls`` the other arguments of every block per batch; ``targets``
    maps a block's name to the full names of its target layers.
    """
    screen = progress or Progress(show=False)
    with screen.phase("calibrate", len(blocks), "block") as phase:
        for block in blocks:
            module = block.load()
            try:
                layers = {name: module.get_submodule(name[len(block.name) + 1 :]) for name in targets[block.name]}
                part = BlockCovariances(block.name, layers, {})
                recorder = Recorder({} if finished(block.name) else layers, moments)
                with evaluating(module), recorder.watching():
                    for index, (call, mask) in enumerate(zip(calls, masks, strict=True)):
                        recorder.begin(mask)
                        hidden.update(index, lambda x, call=call, module=module: call.run(module, x))  # type: ignore[misc]
                part.covariances = recorder.covariances()
                del recorder
                yield part
                part.covariances.clear()
            finally:
                block.release(module)
            phase.advance()


def _loader(module: nn.Module, device: torch.device) -> Callable[..., nn.Module]:
    return lambda *_: module.to(device)
