"""The supported model families as data: their linear layers, the papers' targets, their task heads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import ConfigError, unknown

Linear = tuple[str, str, str, bool]
"""(name within its block, output width, input width, has a bias); widths are keys of ``widths``"""


@dataclass(frozen=True)
class Architecture:
    """One model family. ``{}`` in ``block`` stands for the index of the transformer block."""

    kind: str
    """encoder or decoder"""
    prefix: str
    """attribute of the task model that holds the base model"""
    block: str
    linears: tuple[Linear, ...]
    outside: tuple[Linear, ...]
    """linear layers of the base model outside its blocks"""
    qv: tuple[str, ...]
    """the LoRA and KaSA papers' targets"""
    five: tuple[str, ...]
    """query, key, value, up and down projection"""
    fresh: tuple[str, ...]
    """modules of the classifier that a pretrained checkpoint does not hold"""
    sdpa: bool = True
    """whether transformers has the sdpa attention kernel for it"""
    tied: bool = True
    """whether the language-model head usually shares the input embeddings"""

    @property
    def kv_down(self) -> tuple[str, ...]:
        """The IA3 paper's targets: key, value (GPT-2: fused with the query) and down projection."""
        return (*self.five[:-2][-2:], self.five[-1])


def _bert_like(
    prefix: str,
    attention: tuple[str, str, str],
    outside: tuple[Linear, ...] = (),
    fresh: tuple[str, ...] = ("classifier",),
    sdpa: bool = True,
) -> Architecture:
    query, key, value = (f"attention.self.{name}" for name in attention)
    linears = (
        (query, "hidden", "hidden", True),
        (key, "hidden", "hidden", True),
        (value, "hidden", "hidden", True),
        ("attention.output.dense", "hidden", "hidden", True),
        ("intermediate.dense", "inner", "hidden", True),
        ("output.dense", "hidden", "inner", True),
    )
    five = (query, key, value, "intermediate.dense", "output.dense")
    return Architecture("encoder", prefix, "encoder.layer.{}", linears, outside, (query, value), five, fresh, sdpa)


def _llama_like(*, qkv_bias: bool = False, tied: bool = False) -> Architecture:
    query, key, value = (f"self_attn.{letter}_proj" for letter in "qkv")
    linears = (
        (query, "queries", "hidden", qkv_bias),
        (key, "keys", "hidden", qkv_bias),
        (value, "keys", "hidden", qkv_bias),
        ("self_attn.o_proj", "hidden", "queries", False),
        ("mlp.gate_proj", "inner", "hidden", False),
        ("mlp.up_proj", "inner", "hidden", False),
        ("mlp.down_proj", "hidden", "inner", False),
    )
    five = (query, key, value, "mlp.up_proj", "mlp.down_proj")
    return Architecture("decoder", "model", "layers.{}", linears, (), (query, value), five, ("score",), tied=tied)


_GPT2_LINEARS = (
    ("attn.c_attn", "fused", "hidden", True),
    ("attn.c_proj", "hidden", "hidden", True),
    ("mlp.c_fc", "inner", "hidden", True),
    ("mlp.c_proj", "hidden", "inner", True),
)
_GPT2_FIVE = ("attn.c_attn", "mlp.c_fc", "mlp.c_proj")
_SELF = ("query", "key", "value")
_SELF_DEBERTA = ("query_proj", "key_proj", "value_proj")
_BERT_POOLER = (("pooler.dense", "hidden", "hidden", True),)

ARCHITECTURES: dict[str, Architecture] = {
    "bert": _bert_like("bert", _SELF, outside=_BERT_POOLER),
    "roberta": _bert_like("roberta", _SELF),
    "deberta-v2": _bert_like("deberta", _SELF_DEBERTA, fresh=("pooler", "classifier"), sdpa=False),
    "gpt2": Architecture("decoder", "transformer", "h.{}", _GPT2_LINEARS, (), ("attn.c_attn",), _GPT2_FIVE, ("score",)),
    "llama": _llama_like(),
    "mistral": _llama_like(),
    "gemma": _llama_like(tied=True),
    "qwen2": _llama_like(qkv_bias=True),
}


def task_family(model: Mapping[str, Any], num_labels: int | None) -> Architecture:
    """The family of a model that is to have a head of ``num_labels``, or to generate text (None)."""
    family = architecture_of(model)
    if num_labels is None and family.kind == "encoder":
        raise ConfigError(f"model={model.get('name')} is an encoder and can't generate text; choose a decoder")
    return family


def architecture_of(model: Mapping[str, Any]) -> Architecture:
    """The family of a model config; ConfigError if it is not supported."""
    name = model.get("architecture")
    if name not in ARCHITECTURES:
        raise ConfigError(unknown("model.architecture", name, ARCHITECTURES))
    return ARCHITECTURES[str(name)]
