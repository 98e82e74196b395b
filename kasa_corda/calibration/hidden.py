"""The calibration set's hidden states between two blocks, on the computing device or offloaded to CPU memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

OFFLOADS = ("auto", "always", "never")
SHARE = 4
"""with offload=auto the hidden states may fill 1 / SHARE of the device's free memory"""


class HiddenStates:
    """One tensor (batch, tokens, hidden) per batch, replaced block by block."""

    def __init__(self, states: Sequence[Tensor], device: torch.device, offload: str = "auto") -> None:
        self.device = device
        size = sum(state.nbytes for state in states)
        self.offloaded = device.type == "cuda" and (
            offload == "always" or (offload == "auto" and size > torch.cuda.mem_get_info(device)[0] // SHARE)
        )
        self.states = [self._placed(state) for state in states]

    def update(self, index: int, block: Callable[[Tensor], Tensor]) -> None:
        """Replace the states of one batch by what ``block`` makes of them."""
        out = block(self.states[index].to(self.device, non_blocking=True))
        if self.offloaded:
            self.states[index].copy_(out, non_blocking=True)
        else:
            self.states[index] = out

    def __getitem__(self, index: int) -> Tensor:
        """The states of one batch, on the computing device."""
        return self.states[index].to(self.device)

    def _placed(self, state: Tensor) -> Tensor:
        if not self.offloaded:
            return state.to(self.device)
        # pinned memory: the copies run at the full speed of the bus and don't stop the device
        return torch.empty(state.shape, dtype=state.dtype, pin_memory=True).copy_(state)
