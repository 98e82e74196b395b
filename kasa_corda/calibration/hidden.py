"""The calibration set's hidden states between two blocks, on the computing device or offloaded to CPU memory."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

OFFLOADS = ("auto", "always", "never")
SHARE = 4
"""with offload=auto the hidden states may fill 1 / SHARE of the device's free memory"""


class HiddenStates:
    """One tensor (batch, tokens, hidden) per batch, replaced block by block.

    Offloaded states lie in pinned memory; a stream of their own copies the next batch in and the last one out while
    the device computes.
    """

    def __init__(self, device: torch.device, batches: int, offload: str = "auto") -> None:
        self.device = device
        self.batches = batches
        self.offload = offload
        self.states: list[Tensor] = []
        self.copies: torch.cuda.Stream | None = None
        """the copying stream; None where nothing is offloaded"""
        self.ahead: dict[int, tuple[Tensor, torch.cuda.Event]] = {}
        """the batch that is being copied to the device, and the end of its copy"""

    @property
    def offloaded(self) -> bool:
        return self.copies is not None

    def append(self, state: Tensor) -> None:
        """Take the next batch's states; the first one decides where all of them are kept."""
        if not self.states and self.device.type == "cuda" and self._too_large(state.nbytes * self.batches):
            self.copies = torch.cuda.Stream(self.device)
        if self.copies is None:
            self.states.append(state.to(self.device))
        else:
            self.states.append(torch.empty(state.shape, dtype=state.dtype, pin_memory=True).copy_(state))

    def update(self, index: int, block: Callable[[Tensor], Tensor]) -> None:
        """Replace the states of one batch by what ``block`` makes of them."""
        if self.copies is None:
            self.states[index] = block(self.states[index])
            return
        state = self[index]
        self._fetch((index + 1) % len(self.states), but_not=index)
        out = block(state)
        self.copies.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self.copies):
            self.states[index].copy_(out, non_blocking=True)
        out.record_stream(self.copies)

    def __getitem__(self, index: int) -> Tensor:
        """The states of one batch, on the computing device."""
        if self.copies is None:
            return self.states[index]
        self._fetch(index)
        state, copied = self.ahead.pop(index)
        current = torch.cuda.current_stream(self.device)
        current.wait_event(copied)  # not for the copies of other batches behind it
        state.record_stream(current)
        return state

    def _fetch(self, index: int, but_not: int | None = None) -> None:
        """Start copying a batch to the device; its own stream puts that after the batch's last copy to the CPU."""
        if index == but_not or index in self.ahead:
            return
        with torch.cuda.stream(self.copies):
            state = self.states[index].to(self.device, non_blocking=True)
            self.ahead[index] = state, self.copies.record_event()  # type: ignore[union-attr]

    def _too_large(self, size: int) -> bool:
        if self.offload == "auto":
            return size > torch.cuda.mem_get_info(self.device)[0] // SHARE
        return self.offload == "always"
