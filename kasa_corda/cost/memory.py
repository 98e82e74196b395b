"""Peak memory of one run: weights, optimizer, activations, logits, caches; whichever phase needs most."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from ..config import RunConfig
from .lengths import lengths_of
from .shape import BYTES
from .work import LIKELIHOOD_TOKENS, Work

PROCESS = 9 * 10**8
"""resident bytes of a process that has imported everything"""
CUDA = 9 * 10**8
"""and of one that has a CUDA context as well"""


@dataclass(frozen=True)
class Memory:
    """Bytes on the computing device, by what holds them."""

    weights: int
    optimizer: int
    """gradients, moments, and the best state so far"""
    training: int
    """activations and logits of one micro-batch"""
    evaluation: int
    single: int
    """the same with one text generated at a time, to which generation falls back where memory is short"""
    preparation: int

    @property
    def device(self) -> int:
        """The largest sum that is held at one time."""
        return self.weights + max(self.optimizer + self.training, self.evaluation, self.preparation)

    @property
    def least(self) -> int:
        """What the device must have."""
        return self.weights + max(self.optimizer + self.training, self.single, self.preparation)

    def host(self, gpu: bool) -> int:
        """Resident bytes of the process: on a GPU machine the weights pass through it, on a CPU all is there."""
        return PROCESS + CUDA + self.weights if gpu else PROCESS + self.device


def trained_width(config: RunConfig, work: Work) -> int:
    """Bytes of a trained parameter: adapters are float32, weights of the model have its dtype."""
    return BYTES[config.model.dtype] if work.shape.full else 4


def memory_of(config: RunConfig, work: Work) -> Memory:
    """Count one run; the longest row that training and evaluation meet decides."""
    shape, trainer = work.shape, config.trainer
    base, width = BYTES[config.model.dtype], BYTES[trainer.precision]
    weights = shape.total * base + (0 if shape.full else 4 * shape.trainable)
    copies = 4 if work.evaluations > 1 else 3  # gradient, two moments, and the best state so far
    moments = copies * trained_width(config, work) * shape.trainable
    vocabulary = 0 if shape.classifier else shape.model["vocab_size"]
    training = 0.0
    if work.steps:
        tokens = work.rows * work.longest
        block = tokens * shape.stored_per_token(work.longest, width)
        logits = tokens * vocabulary * (width + 8)
        kept = shape.layers * block
        if trainer.gradient_checkpointing:
            kept = shape.layers * tokens * shape.widths["hidden"] * width
            training = kept + max(block, logits)
        else:
            training = kept + logits
    evaluation, single = _evaluation(config, work), _evaluation(config, work, one_by_one=1)
    parts = (weights, moments, training, evaluation, single, _prepare(config, work))
    return Memory(*map(int, parts))


def _evaluation(config: RunConfig, work: Work, one_by_one: int = 0) -> float:
    """``one_by_one``: rows that are generated at a time, where not those of the config."""
    shape, width = work.shape, BYTES[config.trainer.precision]
    lengths = lengths_of(config.task.name, asdict(config.task))
    batch = config.evaluator.batch_size
    longest = min(lengths.longest, config.task.max_length)
    if shape.classifier:
        return batch * longest * shape.stored_per_token(longest, width)
    tokens = max(LIKELIHOOD_TOKENS, longest)
    scoring = tokens * (shape.model["vocab_size"] * (width + 8) + shape.stored_per_token(longest, width))
    new = getattr(config.task, "max_new_tokens", 0)
    beams = getattr(config.task, "num_beams", 1)
    if new <= 1:
        return scoring
    rows = min(one_by_one or batch, max(work.tests, 1)) * beams
    writing = rows * ((longest + new) * shape.cache_per_token(width) + 4 * shape.model["vocab_size"])
    return max(scoring, writing)


def _prepare(config: RunConfig, work: Work) -> float:
    """Calibration: hidden states of all samples, a batch through one block, its covariances in float32."""
    tokens = work.calibration[0]
    if not tokens:
        return 0.0
    widths, width = work.shape.widths, BYTES[config.model.dtype]
    batch = config.calibration.batch_size * config.calibration.length
    covariances = 4.0 * (3 * widths["hidden"] ** 2 + 3 * widths["inner"] ** 2)
    hidden = tokens * widths["hidden"] * width if config.calibration.offload == "never" else 0.0
    return hidden + batch * work.shape.stored_per_token(config.calibration.length, width) + covariances
