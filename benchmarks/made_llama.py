"""LLaMA-shaped models with made weights, whole or one block at a time, and random calibration tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from layer_weights import made_weights
from torch import nn
from transformers import LlamaConfig, LlamaModel
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaRotaryEmbedding

from kasa_corda.calibration.samples import Calibration
from kasa_corda.calibration.settings import CalibrationConfig
from kasa_corda.corda.decomposition import Recipe
from kasa_corda.corda.presets import PRESETS
from kasa_corda.progress import Progress

LINEARS = [f"self_attn.{x}_proj" for x in "qkvo"] + [f"mlp.{x}_proj" for x in ("gate", "up", "down")]
GIB = 2**30
SHAPES = {
    "7b": (4096, 11008, 32, 32, 32),
    "13b": (5120, 13824, 40, 40, 40),
    "70b": (8192, 28672, 64, 8, 80),
    "toy": (128, 352, 4, 4, 4),
    "toy 13b": (160, 432, 5, 5, 5),
    "toy 70b": (256, 896, 8, 2, 6),
}
"""hidden size, feed-forward size, heads, key-value heads, blocks"""


class Padding:
    """All the collator asks of a tokenizer."""

    padding_side, pad_token_id, pad_token_type_id = "right", 0, 0


@dataclass
class Plan:
    """One shape, its calibration set and the rank."""

    shape: str
    rank: int
    samples: int
    length: int
    batch: int
    device: torch.device

    @classmethod
    def of(cls, shape: str, samples: int, rank: int) -> Plan:
        """The papers' 256 x 2048 tokens and rank 128 unless given; small ones for toy shapes."""
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if shape.startswith("toy"):
            return cls(shape, rank or 16, samples or 16, 64, 4, device)
        return cls(shape, rank or 128, samples or 256, 2048, 8, device)


def config_of(shape: str, blocks: int) -> LlamaConfig:
    hidden, inner, heads, kv_heads, _ = SHAPES[shape]
    return LlamaConfig(
        hidden_size=hidden,
        intermediate_size=inner,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        num_hidden_layers=blocks,
        vocab_size=32000,
        max_position_embeddings=4096,
        attn_implementation="sdpa",
    )


def model_of(plan: Plan, blocks: int) -> LlamaModel:
    """A model of the shape in bfloat16 with made weights; the first blocks are the same for every number of blocks."""
    torch.manual_seed(0)
    with torch.device("meta"):
        model = LlamaModel(config_of(plan.shape, blocks)).bfloat16()
    model.to_empty(device=plan.device)
    model.rotary_emb = LlamaRotaryEmbedding(model.config).to(plan.device)
    for name, parameter in model.named_parameters():
        parameter.data.fill_(1) if "norm" in name else parameter.data.normal_(0, 1)
    for block in model.layers:
        fill(block)
    return model.eval().requires_grad_(False)


def fill(block: nn.Module) -> None:
    """Made weights for every linear layer of a block."""
    layers = {name: block.get_submodule(name) for name in LINEARS}
    shapes = {name: (layer.out_features, layer.in_features) for name, layer in layers.items()}  # type: ignore[misc]
    for name, W in made_weights(shapes, next(block.parameters()).device):  # type: ignore[arg-type]
        layers[name].weight.data.copy_(W)  # type: ignore[union-attr, operator]


def block_of(shape: str, device: torch.device) -> LlamaDecoderLayer:
    with torch.device("meta"):
        block = LlamaDecoderLayer(config_of(shape, 1), 0).bfloat16()
    return block.to_empty(device=device) if device.type != "meta" else block


def calibration_of(plan: Plan, **settings: Any) -> Calibration:
    """Random tokens, all of one length."""
    ids = torch.randint(0, 32000, (plan.samples, plan.length), generator=torch.Generator().manual_seed(233))
    rows = [{"input_ids": row, "attention_mask": [1] * plan.length} for row in ids.tolist()]
    config = CalibrationConfig(samples=plan.samples, length=plan.length, batch_size=plan.batch, **settings)
    return Calibration(config, rows, Padding(), "random tokens", progress=Progress())


def recipe_of(plan: Plan, variant: str) -> Recipe:
    return Recipe("kpa", plan.rank, 1.0, PRESETS[variant])


def memory_now() -> int:
    empty_cache()
    return torch.cuda.memory_allocated() if torch.cuda.is_available() else 0


def peak() -> int:
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0


def empty_cache() -> None:
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
