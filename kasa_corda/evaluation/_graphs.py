"""Steps as CUDA graphs: one call starts all kernels of a step, which for a small model take less time than their
launches one by one."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

WARM_UP = 2


class Graphs:
    """One graph per width of the cache. ``work`` reads and writes the same tensors whenever it is called."""

    def __init__(self, work: Callable[[], None]) -> None:
        self.work = work
        self.graphs: dict[int, torch.cuda.CUDAGraph] = {}
        self.refused: str | None = None
        """why this model's step can't be a graph; it is called plainly then"""

    def forget(self) -> None:
        """The tensors are others now."""
        self.graphs.clear()

    def step(self, width: int, state: Tensor) -> None:
        """Do the work once; ``state`` is what it changes, beside what it would write again anyway."""
        if width not in self.graphs and self.refused is None:
            before = state.clone()
            try:
                self.graphs[width] = self._captured()
            except torch.cuda.OutOfMemoryError:
                raise
            except RuntimeError as error:
                self.refused = str(error).strip().split("\n")[0]
            state.copy_(before)
        if self.refused is None:
            self.graphs[width].replay()
        else:
            self.work()

    def _captured(self) -> torch.cuda.CUDAGraph:
        now, beside = torch.cuda.current_stream(), torch.cuda.Stream()
        beside.wait_stream(now)
        with torch.cuda.stream(beside):
            for _ in range(WARM_UP):
                self.work()
        now.wait_stream(beside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.work()
        return graph
