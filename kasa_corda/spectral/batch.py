"""Many matrices at once: small ones of equal Gram size stacked where that is faster, the others one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .accuracy import TOLERANCE
from .compute import Matrix, Request, acceptable, checked, finished, first_good, rows_for, subspace
from .dense import from_eigen
from .operand import Operand
from .routes import STACKED, fits
from .subspace import Subspace

Report = Callable[[int, Subspace], None]


def bottom_subspaces(
    matrices: Sequence[Matrix],
    r: int,
    *,
    dtype: torch.dtype = torch.float32,
    tolerance: float = TOLERANCE,
    names: Sequence[str] | None = None,
    report: Report | None = None,
) -> list[Subspace]:
    """``bottom_subspace`` of each matrix, in order; ``report(index, result)`` is called as each one is ready."""
    return subspaces(matrices, Request(r, False, dtype, tolerance), names, report)


def top_subspaces(
    matrices: Sequence[Matrix],
    r: int,
    *,
    dtype: torch.dtype = torch.float32,
    tolerance: float = TOLERANCE,
    names: Sequence[str] | None = None,
    report: Report | None = None,
) -> list[Subspace]:
    """``top_subspace`` of each matrix, in order; ``report(index, result)`` is called as each one is ready."""
    return subspaces(matrices, Request(r, True, dtype, tolerance), names, report)


@torch.no_grad()
def subspaces(
    matrices: Sequence[Matrix], request: Request, names: Sequence[str] | None, report: Report | None
) -> list[Subspace]:
    """What is asked for of each matrix, in order."""
    names = names or [f"matrix {index}" for index in range(len(matrices))]
    found: dict[int, Subspace] = {}

    def keep(index: int, result: Subspace) -> None:
        found[index] = result
        if report is not None:
            report(index, result)

    for indices in _stacks(matrices):
        group = [checked(matrices[index], request.r, names[index]) for index in indices]
        for index, result in zip(indices, stacked(group, request), strict=True):
            keep(index, result)
    for index, M in enumerate(matrices):
        if index not in found:
            keep(index, subspace(M, request, name=names[index]))
    return [found[index] for index in range(len(matrices))]


def stacked(group: Sequence[Operand], request: Request) -> list[Subspace]:
    """Operands of one Gram size on one device: all eigenvectors in one batched call, then judged one by one."""
    decomposed = torch.linalg.eigh(torch.stack([M.gram for M in group]))
    results = []
    for M, values, vectors in zip(group, *decomposed, strict=True):
        solution = from_eigen(M, values, vectors, request.r, largest=request.largest)
        if M.mean_square > 0 and acceptable(solution, request):
            results.append(finished(M, solution, request, "gram_eigh", ()))
        else:
            results.append(first_good(M, request, rows_for(M, request)))
    return results


def _stacks(matrices: Sequence[Matrix]) -> list[list[int]]:
    """Indices of CUDA matrices that are decomposed together: at least two of one size, as many as memory takes."""
    groups: dict[tuple[int, torch.device], list[int]] = {}
    for index, M in enumerate(matrices):
        W = M if isinstance(M, Tensor) else M.W
        if W.device.type == "cuda" and W.ndim == 2 and 1 < min(W.shape) <= STACKED:
            groups.setdefault((min(W.shape), W.device), []).append(index)
    stacks = []
    for (n, device), indices in groups.items():
        size = len(indices)
        while size > 1 and not fits("gram_eigh", n, device, count=size):
            size //= 2
        if size > 1:
            stacks += [indices[start : start + size] for start in range(0, len(indices), size)]
    return stacks
