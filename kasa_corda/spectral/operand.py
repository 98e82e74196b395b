"""The matrix whose directions are wanted, seen from its smaller side and touched in float64 only as far as needed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cached_property

import torch
from torch import Tensor

from ..errors import ConfigError, KasaCordaError
from .columns import orthonormal, start_block
from .subspace import Product

HARMLESS = 300
"""powers of two that float64 entries may reach before they are scaled"""
FEWEST = 16
"""leading directions are at least so many"""
CHUNK = 2**25
"""entries converted to float64 at a time (256 MiB)"""


class Operand:
    """M (n, k) with n <= k: the given matrix (side left) or its transpose (side right), M = ``stored`` C^(1/2) if C."""

    def __init__(self, matrix: Tensor, name: str, C: Tensor | None = None, *, product: bool = False) -> None:
        self.side = "left" if matrix.shape[0] <= matrix.shape[1] else "right"
        self.stored = matrix if self.side == "left" else matrix.T
        self.n = min(matrix.shape)
        self.device, self.name, self.C = matrix.device, name, C
        self.product = product
        self._leading: dict[float, tuple[Tensor, Tensor]] = {}
        # Squaring can overflow or underflow float64 input only; narrower types fit.
        self.scale = _power_of_two(matrix) if matrix.dtype is torch.float64 else 1.0

    @cached_property
    def matrix(self) -> Tensor:
        """M in float64 (n, k), divided by ``scale``."""
        matrix = self.stored.double() if self.scale == 1.0 else self.stored / self.scale
        return matrix if self.C is None else matrix @ _any_root(self.C)

    @cached_property
    def gram(self) -> Tensor:
        """M M^T in float64 (n, n), divided by ``scale`` squared. KasaCordaError if it isn't finite."""
        gram = torch.zeros(self.n, self.n, dtype=torch.float64, device=self.device)
        for part in self._parts():
            _add_lower(gram, part if self.C is None else part @ self.C, part)
        gram = gram.tril_() + gram.tril(-1).T
        if not math.isfinite(float(gram.diagonal().sum())):
            raise KasaCordaError(f"{self.name} contains NaN or infinite values, so it has no singular directions")
        return gram

    @cached_property
    def mean_square(self) -> float:
        """Mean of the Gram's diagonal: the mean squared singular value, divided by ``scale`` squared."""
        return float(self.gram.diagonal().sum()) / self.n

    @cached_property
    def norm(self) -> float:
        """Largest singular value by a few power iterations (never above the true one), divided by ``scale``."""
        generator = torch.Generator(device=self.device).manual_seed(1)
        X = torch.randn(self.n, 4, dtype=torch.float64, device=self.device, generator=generator)
        for _ in range(4):
            X = self.gram @ (X / X.norm(dim=0).clamp_min(1e-300))
        return math.sqrt(float(X.norm(dim=0).max()))

    def leading(self, share: float) -> tuple[Tensor, Tensor]:
        """About the ``share`` of largest singular directions: (n, k) orthonormal, and Ritz values (k,), descending.

        A few iterations with the Gram: free of the smallest directions where the spectrum is wide, no more.
        """
        if share not in self._leading:
            self._leading[share] = self._iterated(max(1, min(self.n // 2, max(FEWEST, int(share * self.n)))))
        return self._leading[share]

    def _iterated(self, columns: int) -> tuple[Tensor, Tensor]:
        X = start_block(self.n, columns, self.device)
        for _ in range(4):
            X = orthonormal(self.gram @ X)
        squares, rotation = torch.linalg.eigh(X.T @ (self.gram @ X))
        return X @ rotation.flip(1), squares.flip(0).clamp_min(0).sqrt()

    def gram_times(self, X: Tensor) -> Tensor:
        """M (M^T X) without the Gram; X (n, columns)."""
        product = torch.zeros_like(X)
        for part in self._parts():
            Y = part.T @ X
            product.addmm_(part, Y if self.C is None else self.C @ Y)
        return product

    def column_norms(self, X: Tensor) -> Tensor:
        """||M^T x|| of each column: the singular values of singular vectors, free of the Gram's squared rounding."""
        squares = torch.zeros(X.shape[1], dtype=X.dtype, device=X.device)
        for part in self._parts():
            Y = part.T @ X
            squares += (Y * (Y if self.C is None else self.C @ Y)).sum(0)
        return squares.clamp_min(0).sqrt()

    def _parts(self) -> Iterator[Tensor]:
        """Column blocks of ``stored`` in float64; a single one if there is a C."""
        columns = max(1, CHUNK // self.n) if self.C is None else self.stored.shape[1]
        for part in self.stored.split(columns, dim=1):
            yield part.double() if self.scale == 1.0 else part / self.scale


def _add_lower(gram: Tensor, left: Tensor, right: Tensor) -> None:
    """Add left @ right^T, known to be symmetric, to the lower triangle of ``gram``: 5/8 of the work of all of it."""
    rows = max(64, -(-len(gram) // 4))
    for start in range(0, len(gram), rows):
        end = min(start + rows, len(gram))
        gram[start:end, :end].addmm_(left[start:end], right[:end].T)


def operand(M: Tensor | Product, name: str) -> Operand:
    """Check M and multiply out only what has to be. ConfigError if it is no real matrix, or W and C don't fit."""
    if isinstance(M, Tensor):
        _check_matrix(M, name)
        return Operand(M.detach(), name)
    _check_matrix(M.W, name)
    W, C = M.W.detach(), M.C.detach()
    if C.shape != (W.shape[1], W.shape[1]):
        raise ConfigError(
            f"{name}: W is {tuple(W.shape)}, so C must be ({W.shape[1]}, {W.shape[1]}), not {tuple(C.shape)}"
        )
    if M.root not in ("symmetric", "cholesky"):
        raise ConfigError(f"{name}: root={M.root} is unknown; choose symmetric or cholesky")
    if M.exponent == 0:
        return Operand(W, name)
    W, C = W.double(), C.to(W.device).double()
    if not bool(torch.isfinite(C.sum() + W.sum())):
        raise KasaCordaError(f"{name}: W or C contains NaN or infinite values, so there are no singular directions")
    if M.exponent == 1:
        return Operand(W @ C, name, product=True)
    if M.exponent == 0.5 and W.shape[0] <= W.shape[1]:
        return Operand(W, name, C, product=True)
    if M.exponent == 0.5 and M.root == "cholesky":
        return Operand(W @ _cholesky(C, name), name, product=True)
    return Operand(W @ _symmetric_power(C, M.exponent), name, product=True)


def _check_matrix(M: Tensor, name: str) -> None:
    if M.ndim != 2 or not M.is_floating_point():
        raise ConfigError(f"{name} is {tuple(M.shape)} of {M.dtype}; singular directions need a matrix of real numbers")


def _power_of_two(matrix: Tensor) -> float:
    """1 unless squares of the entries come near the ends of float64's range."""
    largest = float(matrix.abs().amax()) if matrix.numel() else 0.0
    exponent = math.frexp(largest)[1]
    return 2.0**exponent if 0 < largest < math.inf and abs(exponent) > HARMLESS else 1.0


def _cholesky(C: Tensor, name: str) -> Tensor:
    L, info = torch.linalg.cholesky_ex(C)
    if int(info):
        raise KasaCordaError(
            f"{name}: C is not positive definite, so it has no Cholesky root; damp it or use symmetric"
        )
    return L


def _symmetric_power(C: Tensor, exponent: float) -> Tensor:
    """C^exponent; eigenvalues that are zero but for rounding count as zero, or a root would magnify the rounding."""
    power, directions = torch.linalg.eigh(C)
    zero = power <= len(power) * torch.finfo(power.dtype).eps * power[-1]
    return (directions * (power.clamp_min(0) ** exponent).masked_fill(zero, 0)) @ directions.T


def _any_root(C: Tensor) -> Tensor:
    """A root F with F F^T = C, triangular if C is positive definite."""
    L, info = torch.linalg.cholesky_ex(C)
    return _symmetric_power(C, 0.5) if int(info) else L
