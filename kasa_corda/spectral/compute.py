"""The calls: check the request, run the routes of the table until one is accurate enough, and say what happened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..errors import ConfigError, KasaCordaError, unknown
from . import dense
from .accuracy import TOLERANCE, gram_noise
from .deflated import deflated, sticks_out
from .filtering import filtered
from .operand import Operand, operand
from .routes import FILTERED_FROM, MATRICES, SQUARING, Row, candidates
from .solution import Imprecise, Solution, Unsolved
from .subspace import Product, Subspace
from .triangular import triangular

Matrix = Tensor | Product
SAFE = 1e4
"""times the Gram's noise: a shift that keeps its inverse exact enough, far below any cut that can be resolved"""


@dataclass(frozen=True)
class Request:
    """What is asked for."""

    r: int
    largest: bool
    dtype: torch.dtype
    tolerance: float


def bottom_subspace(
    M: Matrix,
    r: int,
    *,
    dtype: torch.dtype = torch.float32,
    tolerance: float = TOLERANCE,
    route: str | None = None,
    name: str = "matrix",
) -> Subspace:
    """The r smallest of the min(out, in) singular directions of M (out, in), exact to ``tolerance``.

    ``dtype`` is that of the basis; ``tolerance`` bounds the estimated sine of the largest angle to the exact
    subspace; ``route`` overrides the first choice of the table (docs/spectral.md); ``name`` is the layer in messages.
    ConfigError if not 0 < r < min(out, in); KasaCordaError if M has NaN or infinite values.
    """
    return subspace(M, Request(r, False, dtype, tolerance), route=route, name=name)


def top_subspace(
    M: Matrix,
    r: int,
    *,
    dtype: torch.dtype = torch.float32,
    tolerance: float = TOLERANCE,
    route: str | None = None,
    name: str = "matrix",
) -> Subspace:
    """The r largest singular directions of M; see ``bottom_subspace``."""
    return subspace(M, Request(r, True, dtype, tolerance), route=route, name=name)


@torch.no_grad()
def subspace(M: Matrix, request: Request, *, route: str | None = None, name: str = "matrix") -> Subspace:
    """What is asked for, on the device of M; on the CPU if the GPU's memory doesn't do, said in ``fallback``."""
    matrix = checked(M, request.r, name)
    try:
        rows = rows_for(matrix, request, route)
        if rows:
            return first_good(matrix, request, rows)
    except torch.OutOfMemoryError:
        pass
    on_cpu = operand(M.cpu() if isinstance(M, Tensor) else replace(M, W=M.W.cpu(), C=M.C.cpu()), name)
    found = first_good(on_cpu, request, rows_for(on_cpu, request, route))
    reasons = "; ".join(filter(None, ("too little GPU memory, computed on the CPU", found.fallback)))
    return replace(found, basis=found.basis.to(matrix.device), values=found.values.to(matrix.device), fallback=reasons)


def checked(M: Matrix, r: int, name: str) -> Operand:
    """The matrix, if r directions of it can be separated from others."""
    check_rank(M, r, name)
    return operand(M, name)


def check_rank(M: Matrix, r: int, name: str) -> None:
    """ConfigError unless 0 < r < min(out, in)."""
    shape = tuple(M.shape if isinstance(M, Tensor) else M.W.shape)
    if len(shape) == 2 and not 0 < r < min(shape):
        raise ConfigError(f"{name}: rank {r} must be at least 1 and below min(out, in) = {min(shape)} of shape {shape}")


def rows_for(M: Operand, request: Request, route: str | None = None) -> list[Row]:
    """The table's rows for this matrix, ``route`` first if it is given."""
    rows = candidates(M.n, request.r, M.device, largest=request.largest)
    if route is None and M.product and not request.largest and sticks_out(M):
        route = "deflated"
    if route is None:
        return rows
    if route not in MATRICES:
        raise ConfigError(unknown("route", route, MATRICES))
    return [Row(M.device.type, (1, M.n), 1.0, route, products=400), *(row for row in rows if row.route != route)]


def first_good(M: Operand, request: Request, rows: Sequence[Row]) -> Subspace:
    """The result of the first row that is accurate enough, or of one whose cut nothing could resolve."""
    if M.mean_square == 0:
        return _of_zero(M, request)
    reasons: list[str] = []
    imprecise = False
    for row in rows:
        if imprecise and row.route in SQUARING:
            continue
        try:
            solution = _run(row, M, request)
        except (Unsolved, torch.linalg.LinAlgError) as problem:
            reasons.append(f"{row.route}: {str(problem).splitlines()[0]}")
            imprecise |= isinstance(problem, Imprecise)
            continue
        if row is rows[-1] or acceptable(solution, request):
            return finished(M, solution, request, row.route, reasons)
        imprecise |= row.route in SQUARING
        error = solution.error(largest=request.largest)
        reasons.append(f"{row.route}: estimated error {error:.1e} is above {request.tolerance:.1e}")
    raise KasaCordaError(f"{M.name}: no route found its singular directions ({'; '.join(reasons) or 'none fits'})")


def acceptable(solution: Solution, request: Request) -> bool:
    """Accurate to the tolerance, or cut through values that float64 can't tell apart."""
    evidence, values = solution.evidence, solution.values
    return solution.error(largest=request.largest) <= request.tolerance or not evidence.can_resolve(
        values, largest=request.largest, tolerance=request.tolerance
    )


def finished(M: Operand, solution: Solution, request: Request, route: str, reasons: Sequence[str]) -> Subspace:
    """The result in the input's scale and the wanted type."""
    largest = request.largest
    solution = solution.polished(M)
    vectors, values, evidence = solution.vectors, solution.values, solution.evidence
    residual = float((M.gram_times(vectors) - vectors * values**2).norm(dim=0).max()) / evidence.norm**2
    return Subspace(
        basis=vectors.to(request.dtype).contiguous(),
        values=values * M.scale,
        side=M.side,
        residual=residual,
        route=route,
        fallback="; ".join(reasons) or None,
        error=min(1.0, solution.error(largest=largest) + torch.finfo(request.dtype).eps),
        resolved=evidence.can_resolve(values, largest=largest, tolerance=request.tolerance),
        evidence=evidence.scaled(M.scale),
    )


def _run(row: Row, M: Operand, request: Request) -> Solution:
    r, largest, tolerance = request.r, request.largest, request.tolerance
    match row.route:
        case "filtered" | "filtered_solve":
            explicit = row.route == "filtered"
            return filtered(M, r, largest=largest, tolerance=tolerance, products=row.products, explicit=explicit)
        case "deflated":
            if largest:
                raise Unsolved("finds smallest directions only")
            return deflated(M, r, tolerance=tolerance, solve=lambda squeezed: _of_squeezed(squeezed, request))
        case "gram_partial":
            return dense.gram_partial(M, r, largest=largest)
        case "triangular":
            if largest:
                raise Unsolved("finds smallest directions only")
            return triangular(M, r, tolerance=tolerance)
        case "gesvda":
            if M.device.type != "cuda":
                raise Unsolved("needs CUDA")
            return dense.gesvda(M, r, largest=largest)
        case "svd64":
            return dense.svd64(M, r, largest=largest)
        case _:
            return dense.gram_eigh(M, r, largest=largest)


def _of_squeezed(M: Operand, request: Request) -> Solution:
    """By the Gram route of the device."""
    if M.device.type == "cpu" and M.n < FILTERED_FROM:
        return dense.gram_partial(M, request.r, largest=False)
    noise = gram_noise(M.mean_square, M.n)
    return filtered(M, request.r, largest=False, tolerance=request.tolerance, products=400, shift=SAFE * noise)


def _of_zero(M: Operand, request: Request) -> Subspace:
    """A zero matrix has no preferred directions: the first r axes, values and residual 0, the cut unresolved."""
    axes = torch.eye(M.n, request.r, dtype=request.dtype, device=M.device)
    values = torch.zeros(request.r, dtype=torch.float64, device=M.device)
    return Subspace(axes, values, M.side, residual=0.0, route="zero", error=1.0, resolved=False)
