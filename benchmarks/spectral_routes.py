"""Seconds of every route and of its building blocks on this device: the measurements behind the route table.

python benchmarks/spectral_routes.py                     4096 x 4096 and 4096 x 11008 (one GPU, about two minutes)
python benchmarks/spectral_routes.py --sizes 384x384,384x1536 --ranks 8,32
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import harness
import torch
from layer_weights import MADE, made_weights
from torch import Tensor

from kasa_corda.errors import KasaCordaError
from kasa_corda.spectral import bottom_subspace, top_subspace
from kasa_corda.spectral.filtering import orthonormal
from kasa_corda.spectral.routes import MATRICES


def median(work: Callable[[], Any], repeats: int = 3) -> float:
    work()
    return statistics.median(harness.seconds(work) for _ in range(repeats))


def blocks(W: Tensor, r: int) -> dict[str, float]:
    """Seconds of what the filtered route consists of."""
    M = W.double() if W.shape[0] <= W.shape[1] else W.double().T
    G = M @ M.T
    shifted = G + G.diagonal().mean() * 1e-3 * torch.eye(len(G), dtype=G.dtype, device=G.device)
    L = torch.linalg.cholesky(shifted)
    X = torch.randn(len(G), r + max(8, r // 2), dtype=G.dtype, device=G.device)
    small = X.T @ X
    return {
        "gram": median(lambda: M @ M.T),
        "cholesky": median(lambda: torch.linalg.cholesky(shifted)),
        "inverse": median(lambda: torch.cholesky_inverse(L)),
        "block product": median(lambda: G @ X),
        "block solve": median(lambda: torch.cholesky_solve(X, L)),
        "orthonormal": median(lambda: orthonormal(X)),
        "small eigh": median(lambda: torch.linalg.eigh(small)),
    }


def main() -> None:
    options = harness.arguments(__doc__, sizes="4096x4096,4096x11008", ranks="8,32,128")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    print(MADE, flush=True)
    shapes = {size: tuple(map(int, size.split("x"))) for size in options.sizes.split(",")}
    for size, W in made_weights(shapes, device):
        for r in map(int, options.ranks.split(",")):
            print(size, "rank", r, {name: f"{taken:.5f}" for name, taken in blocks(W, r).items()}, flush=True)
            for end, find in (("bottom", bottom_subspace), ("top", top_subspace)):
                for route in MATRICES:
                    if route == "svd64" and min(W.shape) > 2048:
                        continue
                    try:
                        found = find(W, r, route=route)
                    except KasaCordaError as error:
                        print(f"  {end} {route}: {error}", flush=True)
                        continue
                    if found.route != route:
                        print(f"  {end} {route}: left for {found.route} ({found.fallback})", flush=True)
                        continue
                    taken = median(lambda find=find, route=route, W=W, r=r: find(W, r, route=route), repeats=2)
                    print(f"  {end} {route}: {taken:.4f} s, estimated error {found.error:.1e}", flush=True)


if __name__ == "__main__":
    main()
