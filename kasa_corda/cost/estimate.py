"""Seconds, memory and disk of one run, from its counted work and a machine's profile."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field

from ..config import RunConfig
from ..methods import METHODS
from .memory import memory_of, trained_width
from .profile import Profile, profile_for
from .shape import BYTES, Shape
from .work import Decoding, Passes, Work, work_of

STEP_KERNELS = 120
"""kernels of an optimizer step beside the model: loss, clipping, fused AdamW, records"""
TRAFFIC = 2.0
"""how often the stored activations move through memory: written, read in the backward pass, and in between"""
FACTORS = {
    "dora": 1.6, "adalora": 1.3, "dylora": 1.1, "boft": 2.0, "oft": 1.5, "hra": 1.6, "loha": 1.4, "lokr": 1.3,
    "fourierft": 1.4, "vera": 1.2, "p_tuning": 1.2, "prefix_tuning": 1.1,
}  # fmt: skip
"""seconds of a step over LoRA's, for methods that do more per layer (benchmarks/method_step.py on two CPU cores)"""
PREDICTION_BYTES = 250
"""of one line of predictions"""


@dataclass(frozen=True)
class Seconds:
    """Time of some work: what the host needs to start it and what the device needs to do it."""

    host: float
    device: float

    def __add__(self, other: Seconds) -> Seconds:
        return Seconds(self.host + other.host, self.device + other.device)

    def __mul__(self, times: float) -> Seconds:
        return Seconds(self.host * times, self.device * times)

    def together(self, concurrent: int) -> float:
        """Wall seconds where this many equal runs share the device; each has a host core of its own."""
        return max(self.host, self.device * concurrent)


ZERO = Seconds(0.0, 0.0)


@dataclass(frozen=True)
class Estimate:
    """What one run costs."""

    seconds: float
    """wall time; where it shares the device (``concurrent``), that of the shared run"""
    by_phase: dict[str, float]
    """start, load, data, prepare, adapt, fit, evaluate: as in result.json, and the start before it"""
    device_bytes: int
    """peak of allocated GPU memory; 0 on a CPU"""
    host_bytes: int
    """peak of resident memory"""
    disk_bytes: int
    """what the run leaves"""
    busy: float
    """seconds of the device: what a run costs where enough others share it"""
    shared: dict[str, float] = field(default_factory=dict)
    """seconds of the parts that other runs of the same key find ready: key -> seconds, in ``seconds``"""
    least_bytes: int = 0
    """memory of the computing device below which it can't be run: generation in single texts"""
    scratch_bytes: int = 0
    """checkpoint while it runs"""

    @property
    def bytes(self) -> int:
        """Memory of the device that computes."""
        return self.device_bytes or self.host_bytes

    @property
    def disk(self) -> int:
        return self.disk_bytes


def estimate(config: RunConfig, profile: Profile | None = None, *, concurrent: int = 1) -> Estimate:
    """One run, alone on the device or beside ``concurrent`` - 1 others."""
    profile = profile or profile_for()
    work = work_of(config)
    found = phases(config, work, profile)
    seconds = {name: part.together(concurrent) for name, part in found.items()}
    memory = memory_of(config, work)
    scale = max(1, config.scale.devices)
    return Estimate(
        seconds=sum(seconds.values()),
        by_phase=seconds,
        device_bytes=memory.device if profile.kind == "gpu" else 0,
        host_bytes=memory.host(profile.kind == "gpu"),
        disk_bytes=_disk(config, work),
        busy=sum(part.device for part in found.values()) * scale,
        shared=_shared(config, work, profile, concurrent),
        least_bytes=memory.least if profile.kind == "gpu" else memory.host(False) - memory.device + memory.least,
        scratch_bytes=4 * trained_width(config, work) * work.shape.trainable if work.steps else 0,
    )


def phases(config: RunConfig, work: Work, profile: Profile) -> dict[str, Seconds]:
    """Phase -> its time, under the names of result.json."""
    shape = work.shape
    weights = shape.total * BYTES[config.model.dtype]
    scored = _add(forward(shape, part, config, profile) for part in work.scoring)
    written = _add(decoded(shape, part, config, profile) for part in work.decoding)
    before = _add(
        [
            *(forward(shape, part, config, profile) for part in work.before[0]),
            *(decoded(shape, part, config, profile) for part in work.before[1]),
        ]
    )
    decompose, covariances = decomposed(work, profile), calibrated(config, work, profile)
    prepares = METHODS[config.method.name].calibrated
    return {
        "start": Seconds(profile.start, 0.0),
        "load": Seconds(0.5 + weights / profile.read, 0.0),
        "data": Seconds(0.5 + work.examples / profile.examples + 0.0005 * work.tests, 0.0),
        "prepare": covariances + decompose if prepares else ZERO,
        "adapt": Seconds(0.2 + 0.002 * shape.adapted, 0.0) + (ZERO if prepares else decompose),
        "fit": step(shape, work, config, profile) * work.steps,
        "evaluate": scored + written + before,
    }


def step(shape: Shape, work: Work, config: RunConfig, profile: Profile) -> Seconds:
    """One optimizer step: forward and backward passes of its micro-batches, and the update."""
    trainer = config.trainer
    mixed, width = trainer.precision != "fp32", BYTES[trainer.precision]
    forward_flops = shape.forward_flops(work.tokens, work.length, 0 if shape.classifier else work.tokens)
    again = forward_flops if trainer.gradient_checkpointing else 0.0
    flops = forward_flops + again + shape.backward_flops(forward_flops, work.tokens)
    stored = work.tokens * shape.layers * shape.stored_per_token(work.length, width)
    vocabulary = 0 if shape.classifier else work.tokens * shape.model["vocab_size"] * (width + 8)
    casts = 1.5 * shape.total * BYTES[config.model.dtype] if mixed and config.model.dtype == "float32" else 0
    traffic = TRAFFIC * stored * (1.4 if again else 1.0) + 3 * vocabulary + casts
    kernels = shape.kernels(mixed=mixed) * (3.5 if again else 2.5)
    update = 20.0 * shape.trainable / profile.bandwidth
    each = Seconds(
        kernels * profile.host,
        kernels * profile.busy + flops / _rate(config, profile) + traffic / profile.bandwidth,
    )
    whole = each * work.micro + Seconds(STEP_KERNELS * profile.host, STEP_KERNELS * profile.busy + update)
    return whole * FACTORS.get(config.method.name, 1.0)


def forward(shape: Shape, passes: Passes, config: RunConfig, profile: Profile) -> Seconds:
    """Forward passes of an evaluation."""
    width = BYTES[config.trainer.precision]
    flops = shape.forward_flops(passes.tokens, passes.length, passes.logits)
    traffic = passes.tokens * shape.layers * shape.stored_per_token(passes.length, width)
    traffic += 3 * passes.logits * shape.model["vocab_size"] * (width + 4)
    kernels = shape.kernels(mixed=config.trainer.precision != "fp32")
    each = Seconds(
        kernels * profile.host + profile.batch,
        kernels * profile.busy + flops / _rate(config, profile) + traffic / profile.bandwidth + profile.batch,
    )
    return each * passes.count


def decoded(shape: Shape, part: Decoding, config: RunConfig, profile: Profile) -> Seconds:
    """A generation: its prompts, then one small forward pass per token, which reads all weights."""
    width = BYTES[config.trainer.precision]
    kernels = shape.kernels(mixed=config.trainer.precision != "fp32")
    flops = shape.forward_flops(part.rows, part.prompt, part.rows)
    held = shape.total * BYTES[config.model.dtype] + part.rows * part.prompt * shape.cache_per_token(width)
    device = kernels * profile.busy + flops / _rate(config, profile) + held / profile.bandwidth
    host = 0.0 if part.graphs else kernels * profile.host
    prompts = Passes(part.prompts / max(part.rows, 1), part.rows * part.prompt, part.prompt)
    return Seconds(host, device) * part.steps + forward(shape, prompts, config, profile)


def decomposed(work: Work, profile: Profile) -> Seconds:
    size, layers = work.decompose
    seconds = size / profile.spectral + layers * profile.spectral_layer
    return Seconds(seconds, seconds)


def calibrated(config: RunConfig, work: Work, profile: Profile) -> Seconds:
    """Forward passes over the calibration samples, and the products x xT of every target layer's input."""
    tokens, flops, products, layers = work.calibration
    if not tokens:
        return ZERO
    width = config.model.dtype
    batches = tokens / (config.calibration.batch_size * config.calibration.length)
    kernels = batches * (work.shape.kernels(mixed=False) + 3 * layers)
    device = kernels * profile.busy + flops / profile.flops(width) + products / profile.flops(width)
    return Seconds(kernels * profile.host, device)


def _rate(config: RunConfig, profile: Profile) -> float:
    sixteen = config.trainer.precision != "fp32" or config.model.dtype != "float32"
    return profile.flops_16 if sixteen else profile.flops_32


def _add(parts: object) -> Seconds:
    return sum(parts, ZERO)  # type: ignore[call-overload, no-any-return]


def _shared(config: RunConfig, work: Work, profile: Profile, concurrent: int) -> dict[str, float]:
    """Parts that are kept by content and found again: subspaces, scores before training, and in a sweep the
    preparations of calibrated methods."""
    found = {}
    where = f"{config.model.name}:{config.model.dtype}"
    if work.calibration[0]:
        method = {k: v for k, v in asdict(config.method).items() if k not in ("learning_rate", "label", "dropout")}
        data = config.task.name if config.calibration.source == "train" else ""
        key = json.dumps(["preparation", where, method, asdict(config.calibration), data], default=str)
        found[key] = (calibrated(config, work, profile) + decomposed(work, profile)).together(concurrent)
    elif work.decompose[1]:
        rank = getattr(config.method, "truncation_rank", None) or getattr(config.method, "rank", 0)
        end = "bottom" if config.method.name in ("kasa", "milora") else "top"
        key = f"subspaces:{where}:{end}:{rank}:{config.method.target_modules}"
        found[key] = decomposed(work, profile).together(concurrent)
    for name, scoring, decoding in zip(config.evaluator.forgetting or [], *work.before, strict=False):
        seconds = forward(work.shape, scoring, config, profile) + decoded(work.shape, decoding, config, profile)
        key = f"before:{where}:{name}:{config.evaluator.batch_size}:{config.trainer.precision}"
        found[key] = seconds.together(concurrent)
    return found


def _disk(config: RunConfig, work: Work) -> int:
    states = 2 if work.steps else 1
    kept = states * PREDICTION_BYTES * work.tests if config.evaluator.save_predictions else 0
    if config.trainer.keep_weights and config.evaluator.test:
        kept += trained_width(config, work) * work.shape.trainable
    return int(kept + 60_000)
