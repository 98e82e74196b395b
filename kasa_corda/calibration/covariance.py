"""One layer's input covariance: C = sum over tokens of x x^T (uncentred, CorDA section 3.2)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.torch_version import TorchVersion

from ..errors import ConfigError, KasaCordaError, unknown

NORMALISATIONS = ("none", "signed_max", "token")
DIVISORS = ("none", "calls", "constant_256", "tokens")
PRECISIONS = ("auto", "float32", "tf32", "bfloat16", "float64")
PANELS_FROM = 2048
"""from this width on only the lower triangle is multiplied, in PANELS column panels"""
PANELS = 4
WIDE_SUMS = TorchVersion(torch.__version__) >= "2.8"
"""whether torch multiplies 16-bit matrices into a float32 one (CUDA only)"""


@dataclass(frozen=True)
class Moments:
    """How covariances are accumulated."""

    normalisation: str = "none"
    """none (paper), signed_max (each sample divided by |its largest entry|, authors and PEFT), token (each token
    divided by its length)"""
    divisor: str = "none"
    """none (paper), calls (samples; PEFT), constant_256 (authors), tokens"""
    precision: str = "auto"
    """arithmetic of the products: auto multiplies in the dtype of the activations (16-bit products are exact in
    float32); float64 also accumulates in float64, all others in float32"""
    means: bool = False
    """whether the inputs' mean is collected too"""

    def __post_init__(self) -> None:
        for key, value, valid in (
            ("normalisation", self.normalisation, NORMALISATIONS),
            ("divisor", self.divisor, DIVISORS),
            ("precision", self.precision, PRECISIONS),
        ):
            if value not in valid:
                raise ConfigError(unknown(key, value, valid))


@dataclass
class Covariance:
    """C (in, in) of the layers that read one tensor, and what it was made of."""

    matrix: Tensor
    tokens: int
    """tokens summed"""
    samples: int
    """samples with at least one token"""
    layers: list[str] = field(default_factory=list)
    """names of the layers that share it"""
    candidate: int = 0
    """which of several calibration sets it was made of (CorDA++)"""
    mean: Tensor | None = None
    """(in,) float64, mean of the inputs, where it was asked for"""


class Accumulator:
    """Sums x^T x batch by batch."""

    def __init__(self, moments: Moments, layer: str) -> None:
        self.moments = moments
        self.layers = [layer]
        self.total: Tensor | None = None
        self.sum: Tensor | None = None
        self.tokens = self.samples = 0

    def add(self, x: Tensor, mask: BatchMask) -> None:
        """Count the valid tokens of one batch of inputs (batch, tokens, in), or (batch, in) with one token each."""
        x = x.detach()
        rows = x.reshape(-1, x.shape[-1])
        picked = mask.rows(x)
        if picked is not None:
            rows = rows.index_select(0, picked)
        if not rows.shape[0]:
            return
        self.tokens += rows.shape[0]
        self.samples += mask.samples
        if self.total is None:
            dtype = torch.float64 if self.moments.precision == "float64" else torch.float32
            self.total = torch.zeros(rows.shape[1], rows.shape[1], dtype=dtype, device=rows.device)
        if self.moments.means:
            added = rows.sum(0, dtype=torch.float64)
            self.sum = added if self.sum is None else self.sum + added
        if self.moments.normalisation == "signed_max":
            for sample in rows.split(mask.counts(x.dim())):
                if len(sample):
                    # dividing the product instead of the inputs keeps 16-bit products exact
                    add_gram(self.total, sample, self.moments.precision, sample.amax().to(self.total.dtype) ** -2)
            return
        if self.moments.normalisation == "token":
            rows = rows.to(self.total.dtype)
            rows = rows / rows.norm(dim=1, keepdim=True).clamp_min(torch.finfo(rows.dtype).tiny)
        add_gram(self.total, rows, self.moments.precision)

    def finish(self) -> Covariance:
        """The covariance; KasaCordaError naming the layer if nothing was counted or an input was NaN or infinite."""
        if self.total is None:
            raise KasaCordaError(f"layer {self.layers[0]} saw no calibration token; every token is masked out")
        matrix = self.total.tril_()
        matrix += matrix.tril(-1).T
        if not torch.isfinite(matrix.sum()):
            raise KasaCordaError(
                f"the calibration inputs of layer {self.layers[0]} are NaN or infinite, so it has no covariance;"
                " check the weights, or use model.dtype=float32"
            )
        matrix /= {"none": 1, "calls": self.samples, "constant_256": 256, "tokens": self.tokens}[self.moments.divisor]
        mean = None if self.sum is None else self.sum / self.tokens
        return Covariance(matrix, self.tokens, self.samples, self.layers, mean=mean)


class BatchMask:
    """Which tokens (batch, tokens) of a batch count, with the index of valid rows prepared once per device."""

    def __init__(self, valid: Tensor) -> None:
        self.valid = valid.bool().cpu()
        self.shape = self.valid.shape
        self.samples = int(self.valid.any(1).sum())
        self._index: dict[tuple[torch.device, int], Tensor | None] = {}

    def fits(self, x: Tensor) -> bool:
        """Whether ``x`` holds one vector per token, or one per sample."""
        return x.shape[:-1] == self.shape or (x.dim() == 2 and x.shape[0] == self.shape[0])

    def rows(self, x: Tensor) -> Tensor | None:
        """Indices of the valid rows of the flattened ``x``; None if all are valid."""
        key = (x.device, x.dim())
        if key not in self._index:
            valid = self._flat(x.dim())
            self._index[key] = None if bool(valid.all()) else valid.nonzero()[:, 0].to(x.device)
        return self._index[key]

    def counts(self, dimensions: int) -> list[int]:
        """Valid rows of every sample."""
        return (self.valid.sum(1) if dimensions == 3 else self.valid.any(1).int()).tolist()

    def _flat(self, dimensions: int) -> Tensor:
        return self.valid.any(1) if dimensions == 2 else self.valid.flatten()


def add_gram(total: Tensor, rows: Tensor, precision: str, factor: Tensor | None = None) -> None:
    """Add the lower triangle (at least) of factor * rows^T rows to ``total`` (in, in); rows is (tokens, in)."""
    if precision == "bfloat16":
        rows = rows.bfloat16()
    elif precision == "float64":
        rows = rows.double()
    elif precision != "auto":
        rows = rows.float()
    narrow = rows.dtype in (torch.bfloat16, torch.float16)
    if narrow and not (rows.is_cuda and WIDE_SUMS):
        rows, narrow = rows.float(), False
    width = rows.shape[1]
    step = -(-width // PANELS) if width >= PANELS_FROM else width
    with matmul_precision(tf32=precision == "tf32"):
        for start in range(0, width, step):
            end = min(start + step, width)
            panel = rows[:, start:end].T
            if narrow:
                product = torch.mm(panel, rows[:, :end], out_dtype=torch.float32)
                total[start:end, :end] += product if factor is None else product.mul_(factor)
            else:
                total[start:end, :end].addmm_(panel if factor is None else panel * factor, rows[:, :end])


@contextmanager
def matmul_precision(*, tf32: bool) -> Iterator[None]:
    """Float32 products on CUDA with or without TF32, whatever the process has set."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = tf32
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
