"""Subspaces of a whole model, from the cache where they are there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from .accuracy import TOLERANCE
from .batch import subspaces
from .cache import SpectralCache
from .compute import Matrix, Request, check_rank, subspace
from .fingerprint import fingerprint
from .subspace import Subspace

Progress = Callable[[str], None]
LEAST_STORED, MOST_ROUNDED = 8, 512


def cached_bottom_subspaces(
    matrices: Mapping[str, Matrix],
    r: int,
    *,
    cache: SpectralCache | None,
    dtype: torch.dtype = torch.float32,
    tolerance: float = TOLERANCE,
    progress: Progress | None = None,
) -> dict[str, Subspace]:
    """``bottom_subspace`` of every named matrix, read from ``cache`` or computed and written to it (None: computed).

    What is computed is stored at the next power of two (8 to 512) above r, and serves every smaller rank.
    ``progress(name)`` is called as each is ready. Errors as ``bottom_subspace``; the cache itself raises none.
    """
    return _cached(matrices, Request(r, False, dtype, tolerance), cache, progress)


def cached_top_subspaces(
    matrices: Mapping[str, Matrix],
    r: int,
    *,
    cache: SpectralCache | None,
    dtype: torch.dtype = torch.float32,
    tolerance: float = TOLERANCE,
    progress: Progress | None = None,
) -> dict[str, Subspace]:
    """``top_subspace`` of every named matrix; see ``cached_bottom_subspaces``."""
    return _cached(matrices, Request(r, True, dtype, tolerance), cache, progress)


def _key(M: Matrix, request: Request) -> str:
    """Hex name of what is stored: the content of the factors, which end, and the precision of the basis."""
    described: dict[str, object] = {
        "end": "top" if request.largest else "bottom",
        "basis": str(_stored_dtype(request.dtype)),
    }
    if isinstance(M, Tensor):
        described |= {"W": fingerprint(M)}
    else:
        described |= {"W": fingerprint(M.W), "C": fingerprint(M.C), "exponent": M.exponent, "root": M.root}
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


def stored_rank(r: int, n: int) -> int:
    """The rank that is computed and stored when r is asked for: a power of two while that is small and below n."""
    rounded = max(LEAST_STORED, 2 ** (r - 1).bit_length())
    return rounded if rounded <= min(MOST_ROUNDED, n - 1) else r


def _cached(
    matrices: Mapping[str, Matrix],
    request: Request,
    cache: SpectralCache | None,
    progress: Callable[[str], None] | None,
) -> dict[str, Subspace]:
    for name, M in matrices.items():
        check_rank(M, request.r, name)
    found: dict[str, Subspace] = {}

    def keep(name: str, result: Subspace) -> None:
        found[name] = result
        if progress is not None:
            progress(name)

    if cache is None:
        names = list(matrices)
        subspaces(list(matrices.values()), request, names, lambda index, result: keep(names[index], result))
        return found
    keys = {name: _key(M, request) for name, M in matrices.items()}
    missing: dict[int, list[str]] = {}
    for name, M in matrices.items():
        stored = cache.get(keys[name], _weight(M).device)
        if stored is None or len(stored.values) < request.r:
            missing.setdefault(stored_rank(request.r, min(_weight(M).shape)), []).append(name)
        else:
            keep(name, _served(stored, request) or subspace(M, request, name=name))
    for rank, names in missing.items():

        def ready(index: int, result: Subspace, names: list[str] = names) -> None:
            name = names[index]
            W = _weight(matrices[name])
            cache.put(keys[name], result, {"layer": name, "shape": " x ".join(map(str, W.shape))})
            keep(name, _served(result, request) or subspace(matrices[name], request, name=name))

        wider = replace(request, r=rank, dtype=_stored_dtype(request.dtype))
        subspaces([matrices[name] for name in names], wider, names, ready)
    cache.evict()
    return {name: found[name] for name in matrices}


def _served(stored: Subspace, request: Request) -> Subspace | None:
    """The part of a stored subspace that was asked for; None if the evidence doesn't vouch for its inner cut."""
    narrow = stored.narrowed(request.r, largest=request.largest)
    rounding = torch.finfo(narrow.basis.dtype).eps
    if narrow.resolved and (narrow.error is None or narrow.error - rounding > request.tolerance):
        return None
    return narrow.with_basis_in(request.dtype)


def _stored_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype is torch.float64 else torch.float32


def _weight(M: Matrix) -> Tensor:
    return M if isinstance(M, Tensor) else M.W
