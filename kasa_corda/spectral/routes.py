"""Which route computes a subspace, and which one follows if it gives up."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

UNLIMITED = 10**9
FILTERED_FROM = 3072
"""on the CPU, from this size on iterating is faster than LAPACK's partial decomposition"""
MATRICES = {
    "filtered": 4,
    "filtered_solve": 3,
    "gram_partial": 3,
    "gram_eigh": 4,
    "deflated": 7,
    "triangular": 6,
    "gesvda": 6,
    "svd64": 6,
}
"""float64 matrices of n x n (n the smaller side) that a route holds at its peak"""
SQUARING = ("filtered", "filtered_solve", "gram_partial", "gram_eigh", "gesvda")
"""routes through the Gram matrix of M, whose condition is that of M squared"""


@dataclass(frozen=True)
class Row:
    """One line of the table: the first that fits the shape, the device and the free memory is taken."""

    device: str
    smaller_side: tuple[int, int]
    """least and largest min(out, in)"""
    largest_share: float
    """most that rank / min(out, in) may be"""
    route: str
    products: int = 0
    """multiplications of the block after which ``filtered`` gives up"""


TABLE = (
    Row("cpu", (1, FILTERED_FROM - 1), 0.25, "gram_partial"),
    Row("cpu", (FILTERED_FROM, UNLIMITED), 0.05, "filtered", products=100),
    Row("cpu", (1, UNLIMITED), 1.0, "gram_eigh"),
    Row("cuda", (513, UNLIMITED), 0.12, "filtered", products=400),
    Row("cuda", (513, UNLIMITED), 0.12, "filtered_solve", products=100),
    Row("cuda", (1, UNLIMITED), 1.0, "gram_eigh"),
)
AFTERWARDS = {"bottom": ("deflated", "gram_eigh", "triangular", "svd64"), "top": ("gram_eigh", "svd64")}
"""what follows, in this order, if a route gives up or can't reach the tolerance"""
STACKED = 512
"""on CUDA, Gram matrices up to this size are decomposed many at a time"""


def candidates(n: int, r: int, device: torch.device, *, largest: bool) -> list[Row]:
    """The rows to try, best first. The memory is judged now, with what other tensors hold."""
    kind = "cuda" if device.type == "cuda" else "cpu"
    fitting = [
        row
        for row in TABLE
        if row.device == kind
        and row.smaller_side[0] <= n <= row.smaller_side[1]
        and r / n <= row.largest_share
        and fits(row.route, n, device)
    ]
    chosen = fitting[:1]
    for route in AFTERWARDS["top" if largest else "bottom"]:
        if fits(route, n, device) and all(row.route != route for row in chosen):
            chosen.append(Row(kind, (1, UNLIMITED), 1.0, route))
    return chosen


def fits(route: str, n: int, device: torch.device, count: int = 1) -> bool:
    """Whether the route's working memory for ``count`` matrices is free; only CUDA devices are asked."""
    if device.type != "cuda":
        return True
    free, _ = torch.cuda.mem_get_info(device)
    reusable = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return count * MATRICES[route] * 8 * n * n <= free + reusable


def as_markdown() -> str:
    """The table as docs/spectral.md prints it."""
    lines = ["| device | min(out, in) | rank share up to | route | gives up after |", "|---|---|---|---|---|"]
    for row in TABLE:
        low, high = row.smaller_side
        sizes = f"from {low}" if high == UNLIMITED else f"{low} to {high}"
        limit = f"{row.products} products" if row.products else ""
        share = "any" if math.isclose(row.largest_share, 1.0) else f"{row.largest_share:g}"
        lines.append(f"| {row.device} | {sizes} | {share} | {row.route} | {limit} |")
    return "\n".join(lines) + "\n"
