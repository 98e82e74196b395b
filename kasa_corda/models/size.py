"""How many parameters a model has, from the config fields alone (no torch)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .architecture import field, widths
from .families import architecture_of

RELATIVE_POSITIONS = 256
"""DeBERTa-v3: buckets of relative distance on each side"""


def parameter_count(model: Mapping[str, Any], num_labels: int | None) -> int:
    """All parameters of the classifier with ``num_labels`` outputs, or of the language model (None).

    ``model["tied_embeddings"]`` says whether a language model shares input and output embeddings; by
    default what is usual in its family.
    """
    family, width = architecture_of(model), widths(model)
    hidden, layers, vocabulary = width["hidden"], field(model, "layers"), field(model, "vocab_size")
    counted = [(layers, linear) for linear in family.linears] + [(1, linear) for linear in family.outside]
    total = sum(times * width[out] * (width[into] + bias) for times, (_, out, into, bias) in counted)
    total += hidden * vocabulary + _positions_and_norms(model, hidden, layers)
    if num_labels is None:
        tied = model.get("tied_embeddings")
        return total + (0 if (family.tied if tied is None else tied) else hidden * vocabulary)
    if family.kind == "decoder":
        return total + hidden * num_labels
    dense = hidden * (hidden + 1) if model["architecture"] in ("roberta", "deberta-v2") else 0
    return total + dense + (hidden + 1) * num_labels


def _positions_and_norms(model: Mapping[str, Any], hidden: int, layers: int) -> int:
    """Parameters of position and segment embeddings and of the LayerNorms (2 hidden each) or RMSNorms (hidden)."""
    positions = model.get("max_positions") or 512
    layer_norms = 2 * hidden * (2 * layers + 1)
    match model["architecture"]:
        case "bert":
            return (positions + 2) * hidden + layer_norms
        case "roberta":
            return (positions + 2 + 1) * hidden + layer_norms
        case "deberta-v2":
            return 2 * RELATIVE_POSITIONS * hidden + 2 * hidden + layer_norms
        case "gpt2":
            return positions * hidden + layer_norms
        case _:
            return hidden * (2 * layers + 1)
