"""``python scripts/plan.py --calibrate``: about a minute of timed work gives this machine's profile.

A matrix product in each precision, a copy, many small kernels, and steps of small made-up models through the project's
own Trainer, to which the figures are fitted.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from ..config import RunConfig
from ..config.schema import ModelConfig, ScaleConfig, TrainerConfig
from .fitting import fitted
from .observed import compared, spread
from .profile import Profile, keep, profile_for
from .rehearsal import rehearse

SMALL = (("bert", "encoder", 2, 128, 512, 4), ("bert", "encoder", 4, 384, 1536, 12))
"""made-up models: architecture, kind, blocks, width, feed-forward width, heads"""
BATCHES = ((8, 16), (32, 64))
"""examples, tokens"""


@dataclass(frozen=True)
class Timing:
    """Figures of single operations."""

    flops_32: float
    flops_16: float
    bandwidth: float
    kernel: float
    """seconds of one small kernel, started one after another"""


def timed() -> Timing:
    """Time the operations on this machine's device."""
    import torch

    gpu = torch.cuda.is_available()
    device = "cuda" if gpu else "cpu"
    size = 4096 if gpu else 768
    flops = {}
    for dtype in (torch.float32, torch.bfloat16):
        left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
        flops[dtype] = 2 * size**3 / _seconds(lambda left=left, right=right: left @ right)  # type: ignore[misc]
    large = torch.zeros(2**28 if gpu else 2**24, device=device)
    copy = large.clone()
    small = torch.zeros(8, 8, device=device)

    def kernels() -> None:
        for _ in range(200):
            small.add_(1.0)

    return Timing(
        flops[torch.float32],
        flops[torch.bfloat16],
        2 * large.numel() * 4 / _seconds(lambda: copy.copy_(large)),
        _seconds(kernels) / 200,
    )


def _seconds(work: Callable[[], object], repeats: int = 5) -> float:
    import torch

    taken = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - start)
    return median(taken[1:])


def calibrated(config: RunConfig | None = None, steps: int = 5) -> tuple[Profile, Path]:
    """Measure this machine, keep its profile in the cache, and return both. ``config``: a run whose task and method
    the small steps are made of (default: LoRA on a task of short sentences)."""
    base, timing = profile_for(), timed()
    gpu = base.kind == "gpu"
    start = replace(
        base,
        flops_32=0.7 * timing.flops_32,
        flops_16=0.6 * timing.flops_16,
        bandwidth=0.7 * timing.bandwidth,
        host=3 * timing.kernel if gpu else 0.0,
        busy=base.busy if gpu else 3 * timing.kernel,
        note="",
        fitted_on="",
    )
    observations = [rehearse(each, steps=steps) for each in small_runs(config or default_run())]
    profile = fitted(start, observations)
    summary = spread([c for each in observations for c in compared(each, profile) if c.what == "step"])
    error = f", median error {100 * summary[0]:.0f} %" if summary else ""
    profile = replace(profile, fitted_on=f"a calibration here: {len(observations)} shapes of {steps} steps{error}")
    return profile, keep(profile)


def small_runs(config: RunConfig) -> list[RunConfig]:
    """Small shapes and batches on the task and method of a run."""
    found = []
    for architecture, kind, layers, width, inner, heads in SMALL:
        model = ModelConfig(
            name=f"calibration_{layers}x{width}",
            architecture=architecture,
            kind=kind,
            layers=layers,
            hidden_size=width,
            intermediate_size=inner,
            heads=heads,
            vocab_size=1000,
        )
        for examples, length in BATCHES:
            trainer = replace(config.trainer, batch_size=examples, accumulation=1)
            task = replace(config.task, max_length=length, name="calibration")
            found.append(replace(config, model=model, trainer=trainer, task=task))
    return found


def default_run() -> RunConfig:
    """LoRA on two-class sentences, as a typed config."""
    from ..evaluation.classification import ClassificationEvaluator
    from ..methods import METHODS
    from ..tasks import TASKS

    task: dict[str, Any] = {"name": "calibration", "family": "reviews", "metric": "accuracy", "labels": ["no", "yes"]}
    return RunConfig(
        model=ModelConfig(),
        method=METHODS["lora"].Config(name="lora", learning_rate=1e-3, target_modules="qv"),
        task=TASKS["reviews"].Config(**task),
        evaluator=ClassificationEvaluator.Config(name="classification"),
        trainer=TrainerConfig(learning_rate=1e-3),
        scale=ScaleConfig(name="pocket"),
    )
