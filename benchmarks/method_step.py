"""What a training step of every method costs beside PEFT's own LoRA, in one run: time, peak memory, preparation.

    python benchmarks/method_step.py --model smollm2          # SmolLM2-135M: released weights if cached, else made ones
    python benchmarks/method_step.py --model 7b --blocks 2    # LLaMA-2-7B's shape, made weights
    python benchmarks/method_step.py --model toy --rounds 3   # the same script in a minute or two on a CPU

A step is forward, backward, every hook of the method, and AdamW (or the method's own optimizer). The reference is a
plain ``peft.LoraConfig`` model and torch's AdamW. It stays in memory, and its steps and the method's are taken in turn,
so that a clock that drifts over the minutes of the whole run does not show as a difference.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import harness
import torch
from method_contenders import Contender, Preparation, reference
from method_models import SETTINGS, Bench, at_most, bench_of, empty_cache

from kasa_corda.methods.groups import ALL, members

LIMIT = 1.05
GIB = 2**30
WARM_UP = 3
FEWEST = 3
"""rounds, however slow a method is"""


@dataclass(frozen=True)
class Times:
    """How long may be measured; seconds but for the first."""

    rounds: int
    each: float
    """for the rounds of one method, of which there are at least ``FEWEST``"""
    most: float
    """for one method with its preparation"""
    total: float


@dataclass
class Measured:
    """One method beside the reference; ``peak`` and ``preparation_peak`` in bytes, None on a CPU."""

    trained: int
    preparation: float
    samples: list[float]
    reference: list[float]
    peak: int | None
    preparation_peak: int | None

    @property
    def ratio(self) -> float:
        return statistics.median(self.samples) / statistics.median(self.reference)


def measure(bench: Bench, name: str, beside: Contender, times: Times) -> Measured:
    """Preparation, warm-up, then steps of both in turn."""
    floor = allocated()
    prepared = Preparation(bench, name, steps=times.rounds + 2 * WARM_UP)
    with empty_cache():
        preparation, preparation_peak = peak_of(prepared.run, floor)
    ours = prepared.contender()
    trained = sum(p.numel() for p in ours.model.parameters() if p.requires_grad)
    for _ in range(WARM_UP - 1):  # the optimizer's moments are made in the first step
        ours.step()
    once, peak = peak_of(ours.step, floor)
    pairs = min(times.rounds, max(FEWEST, int(times.each / (2 * once))))
    samples, others = harness.alternate(ours.step, beside.step, pairs=pairs)
    if not torch.isfinite(ours.loss()):
        raise FloatingPointError("the loss is no longer finite after the measured steps")
    return Measured(trained, preparation, samples, others, peak, preparation_peak)


def peak_of(work: Callable[[], Any], floor: int) -> tuple[float, int | None]:
    """Seconds of one call, and its highest GPU memory above ``floor`` bytes."""
    if not torch.cuda.is_available():
        return harness.seconds(work), None
    torch.cuda.reset_peak_memory_stats()
    taken = harness.seconds(work)
    return taken, torch.cuda.max_memory_allocated() - floor


def allocated() -> int:
    """Bytes on the GPU after everything that nobody holds any more is gone."""
    gc.collect()
    if not torch.cuda.is_available():
        return 0
    torch.cuda.empty_cache()
    return torch.cuda.memory_allocated()


def same_loss(bench: Bench, peers: Contender) -> float:
    """Relative difference between the losses of our ``lora`` and PEFT's with the same A and B, B not zero."""
    prepared = Preparation(bench, "lora", steps=0)
    prepared.run()
    ours = prepared.contender()
    generator = torch.Generator(device=bench.device).manual_seed(2)
    theirs = {name: p for name, p in peers.model.named_parameters() if p.requires_grad}
    mine = {name: p for name, p in ours.model.named_parameters() if p.requires_grad}
    if {name: p.shape for name, p in theirs.items()} != {name: p.shape for name, p in mine.items()}:
        raise SystemExit("our lora and PEFT's train other parameters; nothing was timed")
    with torch.no_grad():
        for name, parameter in theirs.items():
            if "lora_B" in name:
                parameter.normal_(std=0.02, generator=generator)
            mine[name].copy_(parameter)
        expected, found = float(peers.loss()), float(ours.loss())
    return abs(found - expected) / abs(expected)


def measure_all(bench: Bench, names: Sequence[str], beside: Contender, times: Times) -> dict[str, Measured | str]:
    """Name -> what was measured, or why it was not."""
    began = time.perf_counter()
    found: dict[str, Measured | str] = {}
    for name in names:
        if time.perf_counter() - began > times.total:
            found[name] = f"no time left of the {times.total:g} s of --total"
            continue
        try:
            with at_most(times.most):
                found[name] = measure(bench, name, beside, times)
        except Exception as error:
            found[name] = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        print(f"{time.perf_counter() - began:6.1f} s  {name}: {described(found[name])}", flush=True)
    return found


def described(result: Measured | str) -> str:
    if isinstance(result, str):
        return f"not measured: {result}"
    return f"step x {result.ratio:.3f}, prepared in {result.preparation:.2f} s"


def row(name: str, result: Measured | str, peak: int | None) -> dict[str, Any]:
    """One line of the table; ``peak``: the reference's."""
    if isinstance(result, str):
        return {"method": name, "not_measured": result}
    found: dict[str, Any] = {"method": name, "trained": result.trained, "step_over_lora": result.ratio}
    if result.peak is not None and peak:
        found |= {"memory_over_lora": result.peak / peak, "peak_gib": result.peak / GIB}
    found["step_s"] = statistics.median(result.samples)
    found["preparation_s"] = result.preparation
    if result.preparation_peak is not None:
        found["preparation_gib"] = result.preparation_peak / GIB
    return found


def main() -> None:
    chosen = harness.arguments(
        __doc__, model="toy", blocks=0, methods="all", rank=8, targets="all_linear", dtype="", batch=0, length=0,
        samples=0, rounds=10, each=2.0, most=60.0, total=400.0,
    )  # fmt: skip
    given = {key: value for key in ("blocks", "batch", "length", "samples") if (value := getattr(chosen, key))}
    setting = replace(SETTINGS[chosen.model], **given)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = chosen.dtype or ("bfloat16" if device.type == "cuda" else "float32")
    names = ["lora", *(members(ALL) or () if chosen.methods == "all" else chosen.methods.split(","))]
    bench = bench_of(setting, device, dtype, chosen.targets, chosen.rank)
    reference(bench).step()  # the libraries' workspaces, which stay, are nobody's memory
    floor = allocated()
    peers = reference(bench)
    difference = same_loss(bench, peers)
    if difference > 1e-6:
        raise SystemExit(f"our lora's loss differs from PEFT's by {difference:.1e}; nothing was timed")
    allocated()
    for _ in range(WARM_UP):
        peers.step()
    _, peak = peak_of(peers.step, floor)
    times = Times(chosen.rounds, chosen.each, chosen.most, chosen.total)
    measured = measure_all(bench, list(dict.fromkeys(names)), peers, times)
    write(bench, chosen, measured, difference, peak)


def write(bench: Bench, chosen: Any, measured: dict[str, Measured | str], difference: float, peak: int | None) -> None:
    lora = measured["lora"]
    if isinstance(lora, str):
        raise SystemExit(f"our lora could not be measured ({lora}); nothing was written")
    rows = [row(name, result, peak) for name, result in sorted(measured.items(), key=lambda one: order(one[1]))]
    missing = [name for name, result in measured.items() if isinstance(result, str)]
    setting, done = bench.setting, {n: r for n, r in measured.items() if isinstance(r, Measured)}
    medians = [statistics.median(result.reference) for result in done.values()]
    blocks = f", {setting.blocks} blocks" if setting.blocks else ""
    within = peak is None or (lora.peak or 0) <= LIMIT * peak
    harness.Result(
        name=f"method_step_{chosen.model}_{bench.device.type}",
        question=f"What does a training step of every method cost beside PEFT's LoRA ({chosen.model}{blocks},"
        f" {setting.batch} x {setting.length} tokens, {bench.dtype})?",
        sides={
            "ours": harness.Side("our lora: peft's layers, our hooks and optimizer groups", lora.samples),
            "peft_lora": harness.Side("peft.LoraConfig and torch.optim.AdamW", lora.reference),
        },
        same_answer=f"our lora's loss and PEFT's with the same A and B differ by {difference:.1e} (limit 1e-6); other"
        " methods compute something else",
        ratio=lora.ratio,
        target=f"our lora / PEFT's at most {LIMIT} in time" + ("" if peak is None else " and peak memory"),
        holds=lora.ratio <= LIMIT and within,
        notes=notes(bench, chosen, medians, missing, peak),
        table=rows,
        samples={name: {"method": r.samples, "peft_lora": r.reference} for name, r in done.items()},
    ).write(chosen.out)


def order(result: Measured | str) -> float:
    """Cheap steps first, what was not measured last."""
    return result.ratio if isinstance(result, Measured) else float("inf")


def notes(bench: Bench, chosen: Any, medians: list[float], missing: list[str], peak: int | None) -> list[str]:
    setting = bench.setting
    precision = "fp32" if bench.dtype == "float32" else f"weights in {bench.dtype} under bfloat16 autocast"
    memory = "memory only on a GPU" if peak is None else "peak memory is of the model, its optimizer and one step"
    return [
        bench.weights,
        f"methods at their configured defaults; where rank and target modules are LoRA's: rank {bench.rank},"
        f" {bench.targets}; {precision}, no gradient checkpointing",
        f"up to {chosen.rounds} rounds of a method and PEFT's LoRA in turn; PEFT's LoRA took {min(medians):.4g} to"
        f" {max(medians):.4g} s; {memory}",
        "preparation is the method's own work before the first step, from an empty cache; CorDA's is calibrated on"
        f" {setting.samples} x {setting.length} random tokens",
        f"not measured: {', '.join(missing) or 'none'}",
    ]


if __name__ == "__main__":
    main()
