"""What one token costs a model of a given shape: FLOPs, kernels, bytes; by closed formulas (no torch)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from ..config import RunConfig
from ..methods import METHODS
from ..models.architecture import linear_shapes, match_targets, widths
from ..models.families import architecture_of
from ..models.size import parameter_count

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "fp32": 4, "bf16": 2, "fp16": 2}
KERNELS = {"bert": 24, "roberta": 24, "deberta-v2": 75, "gpt2": 28}
"""kernels that one block starts in a forward pass; counted by hand from the layers, others 40"""
GATED = ("llama", "mistral", "gemma", "qwen2")
ADAPTER_KERNELS = 6
"""cast, down, up, scale, add and dropout of an adapted layer"""


@dataclass(frozen=True)
class Shape:
    """A model with a method on it."""

    model: dict[str, Any]
    total: int
    """parameters of the base model with its head"""
    trainable: int
    adapted: int
    """layers with an adapter"""
    classifier: bool
    full: bool
    """whether the base's own weights get gradients"""

    @cached_property
    def block(self) -> int:
        """Parameters of all linear layers of the base model."""
        return sum(out * into for out, into in linear_shapes(self.model).values())

    @cached_property
    def widths(self) -> dict[str, int]:
        return widths(self.model)

    @property
    def layers(self) -> int:
        return int(self.model["layers"])

    def forward_flops(self, tokens: float, length: float, logits: float) -> float:
        """One forward pass over ``tokens`` in rows of ``length``, ``logits`` of them through the vocabulary."""
        attention = 4 * length * self.widths["queries"] * self.layers
        if self.model["architecture"] == "deberta-v2":
            attention *= 3  # content to position and position to content
        adapters = 0 if self.full else 2 * self.trainable
        vocabulary = 0 if self.classifier else 2 * self.widths["hidden"] * self.model["vocab_size"] * logits
        return tokens * (2 * self.block + attention + adapters) + vocabulary

    def backward_flops(self, forward: float, tokens: float) -> float:
        """Gradients of activations, and of the weights that train."""
        weights = forward if self.full else 2 * self.trainable * tokens
        return (forward if self.trainable else 0) + weights

    def kernels(self, *, mixed: bool) -> float:
        """Kernels of one forward pass; autocast adds casts."""
        block = KERNELS.get(self.model["architecture"], 40)
        return (self.layers * block + self.adapted * ADAPTER_KERNELS) * (1.4 if mixed else 1.0) + 20

    def stored_per_token(self, length: float, width: int) -> float:
        """Bytes that the forward pass of one block keeps for the backward pass, per token.

        Encoders: Korthikanti et al. (arXiv 2205.05198, Eq. 2), 34 hidden bytes at 16 bit and 5 heads x length for
        attention scores that are written out (eager). Gated decoders: norms in float32, q, k, v, the attention's
        output, four tensors of the feed-forward width.
        """
        hidden, inner, queries, keys = (self.widths[name] for name in ("hidden", "inner", "queries", "keys"))
        if self.model["architecture"] in GATED:
            stored = hidden * 2 * (4 + width) + width * (2 * hidden + 3 * queries + 3 * keys + 4 * inner)
        else:
            stored = width * (9 * hidden + 2 * inner)
        if self.eager:
            copies = 12 if self.model["architecture"] == "deberta-v2" else 5
            stored += copies / 2 * width * self.model["heads"] * length
        return stored

    @property
    def eager(self) -> bool:
        """Whether attention scores are written out."""
        return self.model.get("attention") == "eager" or not architecture_of(self.model).sdpa

    def cache_per_token(self, width: int) -> float:
        """Bytes of the key-value cache per token."""
        return 2 * self.layers * self.widths["keys"] * width


_shapes: dict[str, Shape] = {}


def shape_of(config: RunConfig) -> Shape:
    """The shape of a run's model with its method; each (model, method options, head) once."""
    from ..tasks import TASKS

    labels = TASKS[config.task.family](config.task).num_labels
    method = {k: v for k, v in asdict(config.method).items() if k not in ("learning_rate", "label")}
    model = asdict(config.model)
    key = json.dumps([model, method, labels], sort_keys=True, default=str)
    if key not in _shapes:
        total = parameter_count(model, labels)
        counted = METHODS[config.method.name]
        adapted = len(targets_of(config)) if counted.adapts_layers and counted.trains else 0
        full = config.method.name in ("full", "ft_top")
        _shapes[key] = Shape(model, total, trainable_of(config, total), adapted, labels is not None, full)
    return _shapes[key]


def targets_of(config: RunConfig) -> Mapping[str, tuple[int, int]]:
    """The layers that the method adapts, name -> (out, in)."""
    if not METHODS[config.method.name].adapts_layers:
        return {}
    return match_targets(asdict(config.model), config.method.target_modules)


LOW_RANK = (
    "lora",
    "rslora",
    "lora_plus",
    "pissa",
    "milora",
    "olora",
    "lora_ga",
    "corda_kpa",
    "corda_ipa",
    "kasa",
    "eva",
)


def trainable_of(config: RunConfig, total: int) -> int:
    """Trainable parameters: closed for the low-rank methods, else counted on the meta device (once per shape)."""
    method = config.method
    if not METHODS[method.name].trains:
        return 0
    if method.name == "full":
        return total
    rank = getattr(method, "rank", None)
    if method.name in LOW_RANK and rank and getattr(method, "control", "none") in (None, "none"):
        pairs = targets_of(config).values()
        hidden = widths(asdict(config.model))["hidden"]
        head = 0 if config.task.kind == "generation" else hidden * (hidden + 3)
        extra = rank * len(pairs) if method.name == "kasa" else 0
        return sum(rank * (out + into) for out, into in pairs) + extra + head
    from ..plan import counted

    return counted(config, 1)[1]["trainable"]
