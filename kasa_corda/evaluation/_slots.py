"""A key/value cache whose rows come and go: every row has a slot of its own, which it fills from column 0 on.

transformers' dynamic cache copies all keys and values at every step and can't take in a row in between; its static
cache writes every row at the same column. Here a step writes one column per row, each row at its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

COLUMNS = 64
"""the cache grows by so many"""
Pair = tuple[Tensor, Tensor]
"""keys and values of one layer, each (rows, heads, columns, width)"""


class Slots(Cache):
    """``column`` (slots,) says where each row's next token goes; columns from ``width`` on are not looked at."""

    layers: Any

    def __init__(self, slots: int, device: Any) -> None:
        super().__init__(layers=[])
        self.slots = slots
        self.row = torch.arange(slots, device=device)
        self.column = torch.zeros(slots, dtype=torch.int64, device=device)
        self.width = 0

    def reserve(self, width: int) -> bool:
        """Make room for ``width`` columns and look at those; whether any tensor is another one now."""
        self.width = width
        grown = [layer.reserve(width) for layer in self.layers]
        return any(grown)

    def put(self, pairs: Sequence[Pair], slots: Sequence[int]) -> bool:
        """Write rows into slots, from column 0 on; whether any tensor is another one now."""
        if not self.layers:
            self.layers = [SlotLayer(self, keys, values) for keys, values in pairs]
        index = torch.tensor(slots, device=self.row.device)
        grown = [layer.put(*pair, index) for layer, pair in zip(self.layers, pairs, strict=True)]
        return any(grown)

    def compact(self, used: Sequence[int]) -> list[int]:
        """Only as many slots as are ``used``; returns, for every slot left, the one its row was in. In place."""
        count = len(used)
        holes = [slot for slot in range(count) if slot not in set(used)]
        moved = dict(zip(holes, [slot for slot in used if slot >= count], strict=True))
        for layer in self.layers:
            for target, source in moved.items():
                layer.keys[target], layer.values[target] = layer.keys[source], layer.values[source]
            layer.keys, layer.values = layer.keys[:count], layer.values[:count]
        self._resize(count)
        return [moved.get(slot, slot) for slot in range(count)]

    def part(self, kept: Sequence[int], others: Sequence[int], columns: int, slots: int) -> list[Pair]:
        """Go on with ``slots`` slots, the ``kept`` ones first, and return the first columns of the others, in main
        memory. Layer by layer, so that it needs no more of the device's memory."""
        parted: list[Pair] = []
        for layer in self.layers:
            device, both = layer.keys.device, (layer.keys.cpu(), layer.values.cpu())
            layer.keys = layer.values = None
            parted.append(tuple(whole[list(others), :, :columns] for whole in both))  # type: ignore[arg-type]
            for name, whole in zip(("keys", "values"), both, strict=True):
                smaller = whole.new_zeros(slots, *whole.shape[1:])
                smaller[: len(kept)] = whole[list(kept)]
                setattr(layer, name, smaller.to(device))
        self._resize(slots)
        return parted

    def _resize(self, slots: int) -> None:
        self.slots = slots
        self.row = torch.arange(slots, device=self.row.device)
        self.column = torch.zeros_like(self.row)


class SlotLayer(CacheLayerMixin):  # type: ignore[misc]
    is_sliding = False

    def __init__(self, cache: Slots, keys: Tensor, values: Tensor) -> None:
        super().__init__()
        self.cache = cache
        self.keys: Any = keys.new_zeros(cache.slots, keys.shape[1], 0, keys.shape[3])
        self.values: Any = values.new_zeros(cache.slots, values.shape[1], 0, values.shape[3])
        self.is_initialized = True

    def reserve(self, width: int) -> bool:
        """Columns that nobody has written to are 0: what is masked must still be finite."""
        grown = False
        for name in ("keys", "values"):
            held = getattr(self, name)
            if held.shape[2] < width:
                columns = -(-width // COLUMNS) * COLUMNS
                larger = held.new_zeros(held.shape[0], held.shape[1], columns, held.shape[3])
                larger[:, :, : held.shape[2]] = held
                setattr(self, name, larger)
                grown = True
        return grown

    def put(self, keys: Tensor, values: Tensor, slots: Tensor) -> bool:
        grown = self.reserve(keys.shape[2])
        self.keys[slots, :, : keys.shape[2]] = keys.to(self.keys.device)
        self.values[slots, :, : values.shape[2]] = values.to(self.values.device)
        return grown

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> Pair:
        """Write one token per row, and return all columns that are looked at."""
        cache = self.cache
        self.keys[cache.row, :, cache.column] = key_states[:, :, 0]
        self.values[cache.row, :, cache.column] = value_states[:, :, 0]
        return self.keys[:, :, : cache.width], self.values[:, :, : cache.width]

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        pass

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.cache.width, 0

    def get_seq_length(self) -> int:
        """So that the token at hand comes last, and the attention mask alone says what it may look at."""
        return self.cache.width - 1

    def get_max_length(self) -> int:
        return -1


def slots_fit(model: Any, tokens: int) -> bool:
    """Whether a model's cache is plain keys and values of all tokens, for texts of so many."""
    try:
        layers = DynamicCache(config=model.config).layers
    except (AttributeError, KeyError):
        return False
    windows = [layer.sliding_window for layer in layers if type(layer) is DynamicSlidingWindowLayer]
    plain = all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers)
    return plain and all(window > tokens for window in windows)


def aligned(cache: Any, padding: Sequence[int], rows: Sequence[int], virtual: int) -> list[Pair]:
    """What a left-padded forward pass left behind, each row from column 0 on; the cache is taken apart.

    ``padding``: how many columns of each row are padding, behind ``virtual`` ones that every row has. ``rows``: which
    of its rows, in this order.
    """
    layers = cache.layers
    total = layers[0].keys.shape[2]
    pads = torch.tensor([padding[row] for row in rows], device=layers[0].keys.device)
    column = torch.arange(total, device=pads.device).expand(len(rows), -1)
    source = torch.where(column < virtual, column, column + pads[:, None]).clamp(max=total - 1)
    index = torch.tensor(rows, device=pads.device)
    pairs: list[Pair] = []
    for layer in layers:
        pairs.append(tuple(_taken(whole, index, source) for whole in (layer.keys, layer.values)))  # type: ignore[arg-type]
        layer.keys = layer.values = None
    return pairs


def _taken(whole: Tensor, rows: Tensor, source: Tensor) -> Tensor:
    if len(rows) != len(whole):
        whole = whole[rows]
    return whole.gather(2, source.to(whole.device)[:, None, :, None].expand(-1, whole.shape[1], -1, whole.shape[3]))
