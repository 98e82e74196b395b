"""Where the parts of a transformer block are, as data: what methods with modules inside or around blocks need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .families import Architecture, architecture_of

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class BlockParts:
    """One transformer block of a family; all names are relative to it."""

    attention_end: str
    """the last module of the attention sub-layer before its residual add"""
    ffn_end: str
    """the same of the feed-forward sub-layer"""
    ffn: str
    """pre-norm: the feed-forward module, called with its input; post-norm: the module that adds the residual and
    normalises, called with (inner activation, input of the feed-forward)"""
    norms: tuple[str, ...]
    """its LayerNorms, in order"""
    post_norm: bool
    """whether the last LayerNorm comes after the feed-forward's residual add (BERT), instead of before (GPT-2)"""


_BERT_LIKE = BlockParts(
    attention_end="attention.output.dropout",
    ffn_end="output.dropout",
    ffn="output",
    norms=("attention.output.LayerNorm", "output.LayerNorm"),
    post_norm=True,
)
_LLAMA_LIKE = BlockParts(
    attention_end="self_attn.o_proj",
    ffn_end="mlp",
    ffn="mlp",
    norms=("input_layernorm", "post_attention_layernorm"),
    post_norm=False,
)

BLOCK_PARTS: dict[str, BlockParts] = {
    "bert": _BERT_LIKE,
    "roberta": _BERT_LIKE,
    "deberta-v2": _BERT_LIKE,
    "gpt2": BlockParts("attn.resid_dropout", "mlp.dropout", "mlp", ("ln_1", "ln_2"), post_norm=False),
    "llama": _LLAMA_LIKE,
    "mistral": _LLAMA_LIKE,
    "gemma": _LLAMA_LIKE,
    "qwen2": _LLAMA_LIKE,
}


def family_of(model: nn.Module) -> tuple[Architecture, BlockParts]:
    """The family of a transformers model; ConfigError if it is not supported."""
    config: Any = model.config
    return architecture_of({"architecture": config.model_type}), BLOCK_PARTS[config.model_type]


def block_names(model: nn.Module) -> list[str]:
    """Full names of the transformer blocks of a task model, first to last."""
    family, _ = family_of(model)
    config: Any = model.config
    return [f"{family.prefix}.{family.block.format(i)}" for i in range(config.num_hidden_layers)]
