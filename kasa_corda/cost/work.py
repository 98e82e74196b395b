"""What a run does, counted: steps, padded tokens, evaluations, generated tokens, calibration, decompositions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ..config import RunConfig
from ..methods import METHODS
from .lengths import Lengths, lengths_of
from .shape import Shape, shape_of, targets_of

SPECTRAL = ("kasa", "pissa", "milora", "lora_xs", "olora")
"""methods that decompose every target weight (cached on disk by content)"""
LIKELIHOOD_TOKENS = 4096
"""padded tokens of one scoring pass (kasa_corda.evaluation bounds it so)"""


@dataclass(frozen=True)
class Passes:
    """Forward passes: how many, tokens and row length of each, tokens that go through the vocabulary."""

    count: float
    tokens: float
    length: float
    logits: float = 0.0


@dataclass(frozen=True)
class Decoding:
    """One generation: forward passes of ``rows`` tokens each, after prompts of ``prompt`` tokens."""

    steps: float
    rows: float
    prompt: float
    prompts: float
    graphs: bool
    """whether the steps run as CUDA graphs (greedy only)"""


@dataclass
class Work:
    """Everything that costs time in one run."""

    shape: Shape
    steps: int
    micro: int
    """forward and backward passes per step"""
    tokens: float
    """padded tokens of one micro-batch on one device"""
    longest: float
    """longest row of a training batch, over the whole run"""
    rows: float
    length: float
    evaluations: int
    scoring: list[Passes] = field(default_factory=list)
    decoding: list[Decoding] = field(default_factory=list)
    before: tuple[list[Passes], list[Decoding]] = field(default_factory=lambda: ([], []))
    """what evaluator.forgetting scores before training; kept in the cache"""
    examples: int = 0
    """training examples that are read and encoded"""
    tests: int = 0
    decompose: tuple[float, int] = (0.0, 0)
    """sum of m n min(m, n) over decomposed weights, and their number"""
    calibration: tuple[float, float, float, int] = (0.0, 0.0, 0.0, 0)
    """tokens, FLOPs of forward passes, FLOPs of covariances, layers"""


def work_of(config: RunConfig) -> Work:
    """Count one run."""
    task, trainer, shape = asdict(config.task), config.trainer, shape_of(config)
    trains = METHODS[config.method.name].trains
    lengths = lengths_of(config.task.name, task)
    examples = training_examples(config, lengths)
    steps = _steps(config, examples) if trains else 0
    micro = max(1, trainer.accumulation)
    rows = max(1.0, trainer.batch_size / (micro * config.scale.devices))
    limit = config.task.max_length
    length = lengths.padded(round(rows), limit, grouped=trainer.group_by_length)
    if trainer.packing:
        length = min(lengths.mean, limit)
    length += METHODS[config.method.name](config.method).virtual_tokens
    longest = min(lengths.longest, limit)
    work = Work(shape, steps, micro, rows * length, longest, rows, length, _evaluations(config, steps, examples))
    work.examples = examples if trains else 0
    _add_evaluation(work, config, task, lengths)
    _add_preparation(work, config)
    return work


def training_examples(config: RunConfig, lengths: Lengths) -> int:
    """Training examples: published sizes, else the table's."""
    from ..plan import train_examples

    return train_examples(config) or lengths.train or 1000


def _steps(config: RunConfig, examples: int) -> int:
    from ..training import total_steps

    return total_steps(config.trainer, examples)


def _evaluations(config: RunConfig, steps: int, examples: int) -> int:
    if not steps:
        return 0
    every = config.trainer.evaluate_every or max(1, -(-examples // config.trainer.batch_size))
    return steps // every + (steps % every > 0)


def test_examples(settings: Mapping[str, Any], lengths: Lengths) -> int:
    """Examples of all test splits of a task."""
    sizes = settings.get("sizes") or {}
    known = sum(count for name, count in sizes.items() if name != "train") or lengths.test
    return min(known, settings.get("test_examples") or known)


def _add_evaluation(work: Work, config: RunConfig, task: dict[str, Any], lengths: Lengths) -> None:
    tests = test_examples(task, lengths)
    known = task["sizes"].get("train", lengths.train)
    select = tests if config.selection == "paper" else min(config.task.held_out, max(1, known // 10))
    tested = 1 if work.evaluations <= 1 else 2  # the best state, and the last one if that is another
    if not getattr(config.evaluator, "test", True):
        tested = 0
    further = {name: (value, lengths_of(name, value)) for name, value in (task.get("also_evaluate") or {}).items()}
    work.tests = tests + sum(test_examples(*each) for each in further.values())
    if config.task.kind != "generation":
        batch = config.evaluator.batch_size
        length = lengths.padded(batch, config.task.max_length, grouped=False)
        count = work.evaluations * select + tested * tests
        work.scoring = [Passes(count / batch, batch * length, length)]
        return
    trained = bool(work.steps)
    scored = task.get("select_by") == "answer_likelihood"
    if work.evaluations and scored:
        work.scoring.append(_likelihood(work.evaluations * select, lengths, config.task.max_length))
    elif work.evaluations:
        work.decoding.append(_generated(work.evaluations * select, config, task, lengths, trained=trained))
    everything = {config.task.name: (task, lengths), **further}
    asked = config.evaluator.forgetting or []
    for name, (settings, known_lengths) in everything.items():
        count = test_examples(settings, known_lengths)
        if not count:
            continue
        scoring = _likelihood(count, known_lengths, settings.get("max_length") or 128)
        decoding = _generated(count, config, settings, known_lengths, trained=trained and name == config.task.name)
        work.scoring += [scoring] * tested
        work.decoding += [decoding] * tested
        if name in asked:
            work.before[0].append(scoring)
            work.before[1].append(decoding)


def _likelihood(examples: int, lengths: Lengths, limit: int) -> Passes:
    length = min(lengths.prompt + max(lengths.answer, 1), max(limit, 2))
    tokens = min(LIKELIHOOD_TOKENS, examples * length)
    return Passes(max(1.0, examples * length / max(tokens, 1)), tokens, length, tokens)


def _generated(
    examples: int, config: RunConfig, settings: Mapping[str, Any], lengths: Lengths, *, trained: bool
) -> Decoding:
    """A trained model ends its answers; an untrained one, or one asked something else, often writes to the limit."""
    most = settings.get("max_new_tokens") or 1
    expected = min(most, 1.2 * lengths.answer + 4) if trained else (min(most, lengths.answer) + most) / 2
    beams, samples = settings.get("num_beams") or 1, settings.get("samples") or 1
    rows = examples * samples
    slots = min(config.evaluator.batch_size, rows)
    waves = max(1.0, rows / slots)
    steps = expected * waves + (most - expected) * 0.5
    prompt = lengths.prompt * (1 + (settings.get("few_shot") or 0))
    return Decoding(steps if most > 1 else 0, slots * beams, prompt, rows, beams == 1)


def _add_preparation(work: Work, config: RunConfig) -> None:
    method = config.method
    targets = targets_of(config) if METHODS[method.name].adapts_layers else {}
    size = sum(float(out) * into * min(out, into) for out, into in targets.values())
    if method.name in SPECTRAL and getattr(method, "control", "none") not in ("no_truncation", "lora_matched"):
        work.decompose = (size, len(targets))
    if METHODS[method.name].calibrated and config.calibration is not None:
        wanted = config.calibration
        tokens = float(wanted.samples * wanted.length * max(1, wanted.candidates))
        inputs = sum(2.0 * into * into for _, into in targets.values())
        forward = work.shape.forward_flops(tokens, wanted.length, 0.0)
        work.calibration = (tokens, forward, tokens * inputs, len(targets))
        work.decompose = (size, len(targets))
