"""KaSA initialisation of every linear layer of a model, ours against PEFT's full SVD, then a second start from cache.

python benchmarks/kasa_init.py                    224 layers in LLaMA-2-7B shape, made weights (one GPU)
python benchmarks/kasa_init.py --scale toy        the same steps on two small blocks
python benchmarks/kasa_init.py --model minilm     real weights of MiniLM (or smollm2) on this machine
"""

from __future__ import annotations

import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import harness
import torch
from layer_weights import MADE, made_weights, real_weights, shapes_of
from torch import Tensor, nn

from kasa_corda.kasa.truncation import kasa_truncate, removed_factors
from kasa_corda.spectral import SpectralCache, bottom_subspace, cached_bottom_subspaces

MODELS = {"minilm": "minilm", "smollm2": "smollm2_135m"}
TOLERANCE = 1e-5
SAMPLE = 2
"""layers of each shape that PEFT runs before its full pass, so that a time-out leaves a scaled figure"""


@dataclass
class Plan:
    """What is measured where."""

    name: str
    weights: dict[str, Tensor]
    ranks: tuple[int, ...]
    rank: int
    """the rank of PEFT's full pass and of the ratio"""
    target: float
    cache_target: float
    about: str

    @property
    def shapes(self) -> dict[tuple[int, int], list[str]]:
        """Layers of each shape (out, in)."""
        found: dict[tuple[int, int], list[str]] = {}
        for name, W in self.weights.items():
            found.setdefault((W.shape[0], W.shape[1]), []).append(name)
        return found


class Adapted:
    """What PEFT's truncation asks of a LoRA layer: its base layer."""

    def __init__(self, W: Tensor) -> None:
        self.base = nn.Linear(1, 1, bias=False, device=W.device, dtype=W.dtype)
        self.base.weight = nn.Parameter(W, requires_grad=False)

    def get_base_layer(self) -> nn.Module:
        return self.base


def plan(scale: str, model: str) -> Plan:
    if model:
        weights = real_weights(MODELS[model])
        about = f"real weights of {model}: {len(weights)} layers"
        return Plan(f"{model}_cpu", weights, (8, 32), 32, target=1.0, cache_target=1.0, about=about)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if scale == "7b":
        shapes = shapes_of("llama2_7b")
        return Plan("7b", dict(made_weights(shapes, device)), (8, 32, 128), 32, 15.0, 100.0, MADE)
    shapes = {name: (out // 16, into // 16) for name, (out, into) in shapes_of("llama2_7b", layers=2).items()}
    return Plan("toy", dict(made_weights(shapes, device)), (8, 32), 32, 1.0, 1.0, MADE)


def peft_truncates(W: Tensor, r: int) -> Any:
    from peft.tuners.lora.variants import KasaLinearVariant

    return KasaLinearVariant._truncate_base_weight(Adapted(W), r)


def sine(basis: Tensor, reference: Tensor) -> float:
    """Sine of the largest angle between two subspaces (n, r)."""
    basis = torch.linalg.qr(basis.double())[0]
    return float(torch.linalg.matrix_norm(basis - reference @ (reference.T @ basis), 2))


def errors(chosen: Plan) -> list[dict[str, Any]]:
    """Subspace error of both sides on one layer of each shape, against the float64 SVD."""
    rows = []
    for (out, into), names in chosen.shapes.items():
        W = chosen.weights[names[0]]
        left, _, right = torch.linalg.svd(W.double(), full_matrices=False)
        exact = left if out <= into else right.T
        left32, _, right32 = torch.linalg.svd(W.float(), full_matrices=False)  # the call PEFT makes
        single = left32 if out <= into else right32.T
        for r in chosen.ranks:
            if r >= min(out, into):
                continue
            found = bottom_subspace(W, r)
            row = {
                "shape": f"{out} x {into}",
                "rank": r,
                "error_ours": sine(found.basis, exact[:, -r:]),
                "error_reported": found.error,
                "error_peft": sine(single[:, -r:], exact[:, -r:]),
                "route": found.route,
                "fallback": found.fallback,
            }
            rows.append(row)
            print(row, flush=True)
    return rows


def ours(chosen: Plan, r: int) -> float:
    """Seconds to truncate every layer."""

    def work() -> None:
        for W in chosen.weights.values():
            kasa_truncate(W, r)

    return harness.seconds(work)


def peft(chosen: Plan, r: int, names: list[str]) -> float:
    """Seconds of PEFT's truncation of these layers, with a line every ten seconds."""

    def work() -> None:
        said = time.monotonic()
        for done, name in enumerate(names):
            peft_truncates(chosen.weights[name], r)
            if time.monotonic() - said > 10:
                said = time.monotonic()
                print(f"PEFT: {done + 1} of {len(names)}", flush=True)

    return harness.seconds(work)


def floor(chosen: Plan) -> float:
    """Seconds of the float64 Gram products alone, one layer of each shape times their number."""
    total = 0.0
    for (out, into), names in chosen.shapes.items():
        W = chosen.weights[names[0]]
        M = W if out <= into else W.T

        def gram(M: Tensor = M) -> None:
            wide = M.double()
            wide @ wide.T

        gram()
        total += min(harness.seconds(gram) for _ in range(3)) * len(names)
    return total


def from_cache(chosen: Plan, folder: Path) -> float:
    """Seconds to hash every weight, read its subspace and truncate it."""

    def work() -> None:
        for name, found in cached_bottom_subspaces(chosen.weights, chosen.rank, cache=SpectralCache(folder)).items():
            W = chosen.weights[name]
            up, down = removed_factors(W, found.basis, found.side)
            (W.double() - up @ down).to(W.dtype)

    return harness.seconds(work)


def bases_read_are_those_computed(chosen: Plan, folder: Path) -> bool:
    """Whether the cache gives back, bit by bit, what is computed now, on one layer of each shape."""
    some = {names[0]: chosen.weights[names[0]] for names in chosen.shapes.values()}
    read = cached_bottom_subspaces(some, chosen.rank, cache=SpectralCache(folder))
    return all(torch.equal(read[name].basis, bottom_subspace(W, chosen.rank).basis) for name, W in some.items())


@dataclass
class Measured:
    """All figures of one run."""

    checked: list[dict[str, Any]]
    gram: float
    ours: dict[int, list[float]]
    """seconds by rank"""
    fill: float
    again: list[float]
    same_bases: bool
    peft: list[float]
    peft_note: str

    @property
    def same_answer(self) -> str:
        worst = [max(row[f"error_{side}"] for row in self.checked) for side in ("ours", "peft")]
        return (
            "largest sine to the subspace of the float64 SVD, one layer of each shape, all ranks:"
            f" ours {worst[0]:.1e}, PEFT {worst[1]:.1e}"
        )

    def table(self) -> list[dict[str, Any]]:
        """One row per rank. PEFT's time is that of its full SVD at every rank."""
        peer = statistics.median(self.peft)
        rows = []
        for r, taken in self.ours.items():
            seconds = statistics.median(taken)
            share = 1 - self.gram / seconds
            rows.append(
                {
                    "rank": r,
                    "ours_s": seconds,
                    "ratio": peer / seconds,
                    "gram_floor_s": self.gram,
                    "share_above_floor": share,
                }
            )
        return rows


def write(chosen: Plan, got: Measured, out: Path) -> None:
    """Both result files."""
    count, r = len(chosen.weights), chosen.rank
    peer = harness.Side(f"KasaLinearVariant._truncate_base_weight, rank {r}", got.peft)
    ours = harness.Side(f"kasa_truncate, rank {r}", got.ours[r])
    rows = got.table()
    exact = all(row["error_ours"] <= TOLERANCE for row in got.checked)
    harness.Result(
        name=f"kasa_init_{chosen.name}",
        question=f"KaSA truncation of {count} linear layers: our kernels against PEFT's full SVD",
        sides={"ours": ours, "peft": peer},
        same_answer=got.same_answer,
        ratio=peer.median / ours.median,
        target=f"ratio of at least {chosen.target:g} at every rank, at error <= {TOLERANCE:g}",
        holds=exact and all(row["ratio"] >= chosen.target for row in rows),
        notes=[chosen.about, got.peft_note, f"PEFT's rank-{r} time is set against every rank: its SVD is a full one"],
        table=[*rows, *got.checked],
    ).write(out)
    read = harness.Side(f"weights hashed, subspaces read, weights truncated; rank {r}", got.again)
    ratio = peer.median / read.median
    harness.Result(
        name=f"kasa_cache_{chosen.name}",
        question=f"second start of KaSA on {count} linear layers from the cache, against PEFT's SVD at every start",
        sides={"ours": read, "peft": peer},
        same_answer=f"bases read equal bases computed bit by bit: {got.same_bases}; {got.same_answer}",
        ratio=ratio,
        target=f"ratio of at least {chosen.cache_target:g}",
        holds=got.same_bases and ratio >= chosen.cache_target,
        notes=[chosen.about, got.peft_note, f"the first start, which fills the cache, took {got.fill:.3g} s"],
    ).write(out)


def measure(chosen: Plan) -> Measured:
    """Everything but PEFT's full pass; PEFT on a sample of layers, scaled."""
    checked = errors(chosen)
    for names in chosen.shapes.values():  # warm up
        peft_truncates(chosen.weights[names[0]], chosen.rank)
    gram = floor(chosen)
    taken = {}
    for r in chosen.ranks:
        taken[r] = [ours(chosen, r) for _ in range(2)]
        print(f"ours, rank {r}: {min(taken[r]):.3g} s (Gram products alone {gram:.3g} s)", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        fill = from_cache(chosen, Path(folder))
        again = [from_cache(chosen, Path(folder)) for _ in range(5)]
        same_bases = bases_read_are_those_computed(chosen, Path(folder))
    print(f"filling the cache {fill:.3g} s, second start {min(again):.3g} s", flush=True)
    sampled = [(names[:SAMPLE], len(names)) for names in chosen.shapes.values()]
    scaled = sum(peft(chosen, chosen.rank, some) / len(some) * count for some, count in sampled)
    note = f"PEFT measured on {SAMPLE} layers of each shape and scaled to {len(chosen.weights)}"
    return Measured(checked, gram, taken, fill, again, same_bases, [scaled], note)


def main() -> None:
    options = harness.arguments(__doc__, scale="7b", model="", pairs=0)
    chosen = plan(options.scale, options.model)
    count = len(chosen.weights)
    print(f"{count} layers; {chosen.about}", flush=True)
    got = measure(chosen)
    write(chosen, got, options.out)
    passes = options.pairs or (1 if chosen.name == "7b" else 5)
    full = []
    alternating: dict[int, list[float]] = {r: [] for r in chosen.ranks}
    for _ in range(passes):
        full.append(peft(chosen, chosen.rank, list(chosen.weights)))
        if passes > 1:
            for r, taken in alternating.items():
                taken.append(ours(chosen, r))
    got.ours = alternating if passes > 1 else got.ours
    got.peft, got.peft_note = full, f"PEFT measured on all {count} layers, passes: {passes}"
    write(chosen, got, options.out)


if __name__ == "__main__":
    main()
