"""CorDA's preparation of shapes whose whole model need not fit the GPU: blocks made, decomposed and dropped in turn.

python benchmarks/corda_stream.py                        13B and 70B shapes, two blocks of each, scaled (one GPU)
python benchmarks/corda_stream.py --scale toy            the same steps on small blocks
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import harness
import torch
from layer_weights import MADE
from made_llama import GIB, LINEARS, SHAPES, Plan, block_of, config_of, empty_cache, fill, peak, recipe_of
from torch import nn
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from kasa_corda.calibration import Block, Moments, stream_blocks
from kasa_corda.calibration.blocks import Call
from kasa_corda.calibration.covariance import BatchMask
from kasa_corda.calibration.hidden import HiddenStates
from kasa_corda.corda.decomposition import decompose_part
from kasa_corda.corda.factors import residual_weight
from kasa_corda.corda.layers import set_weight, weight_of
from kasa_corda.progress import Progress


def main() -> None:
    chosen = harness.arguments(__doc__, scale="70b", blocks=2, samples=0, rank=0)
    toy = chosen.scale == "toy"
    plan = Plan.of("toy" if toy else "70b", chosen.samples, chosen.rank)
    streamed_shapes(plan, ("toy 13b", "toy 70b") if toy else ("13b", "70b"), chosen.blocks, chosen.out)


def streamed_shapes(plan: Plan, names: tuple[str, ...], blocks: int, out: Path) -> None:
    """Blocks made one at a time: shapes whose whole model need not fit the device."""
    rows = []
    for name in names:
        total = SHAPES[name][-1]
        counted = min(blocks, total)
        seconds, memory = streamed(replace(plan, shape=name), counted)
        size = sum(p.numel() for p in block_of(name, torch.device("meta")).parameters()) * 2 * total
        rows.append(
            {
                "shape": name,
                "blocks_measured": counted,
                "blocks": total,
                "seconds_per_block": seconds / counted,
                "minutes_scaled": seconds / counted * total / 60,
                "peak_gib": memory / GIB,
                "model_gib": size / GIB,
            }
        )
        print(rows[-1], flush=True)
    largest = rows[-1]
    harness.Result(
        "corda_stream_toy" if plan.shape == "toy" else "corda_stream_70b",
        "Does a model larger than GPU memory fit when its blocks are made, decomposed and dropped one at a time?",
        {
            "ours": harness.Side("peak memory in bytes, blocks streamed", [largest["peak_gib"] * GIB], "bytes"),
            "whole model": harness.Side("bytes of its blocks in bfloat16", [largest["model_gib"] * GIB], "bytes"),
        },
        "streaming and whole model give identical adapters: tests/test_corda.py",
        largest["model_gib"] / largest["peak_gib"] if largest["peak_gib"] else 0.0,
        "peak memory below that of the whole model",
        0 < largest["peak_gib"] < largest["model_gib"],
        [
            MADE,
            f"{plan.samples} x {plan.length} tokens, rank {plan.rank}; hidden states offloaded to CPU memory",
            "seconds and minutes are of the measured blocks and scaled to all; making the weights is not counted",
        ],
        rows,
    ).write(out)


def streamed(plan: Plan, count: int) -> tuple[float, int]:
    """Seconds without making weights, and peak memory, of ``count`` blocks."""
    hidden_size = SHAPES[plan.shape][0]
    batches = max(1, plan.samples // plan.batch)
    making = 0.0

    def load() -> nn.Module:
        nonlocal making
        start = time.perf_counter()
        block = block_of(plan.shape, plan.device)
        for name, parameter in block.named_parameters():
            if "norm" in name:
                parameter.data.fill_(1)
        fill(block)
        harness.synchronise()
        making += time.perf_counter() - start
        return block.eval().requires_grad_(False)

    empty_cache()
    generator = torch.Generator(device=plan.device).manual_seed(0)
    hidden = HiddenStates(plan.device, batches, "always")
    for _ in range(batches):
        hidden.append(
            torch.randn(plan.batch, plan.length, hidden_size, generator=generator, device=plan.device).bfloat16()
        )
    rotary = LlamaRotaryEmbedding(config_of(plan.shape, 1)).to(plan.device)
    positions = rotary(hidden[0][:1], torch.arange(plan.length, device=plan.device)[None])
    calls = [Call((), {"position_embeddings": positions, "attention_mask": None})] * batches
    masks = [BatchMask(torch.ones(plan.batch, plan.length))] * batches
    blocks = [Block(f"layers.{index}", load) for index in range(count)]
    targets = {block.name: [f"{block.name}.{name}" for name in LINEARS] for block in blocks}
    recipe = recipe_of(plan, "paper")
    start = time.perf_counter()
    for part in stream_blocks(blocks, hidden, calls, masks, targets, Moments(), progress=Progress()):
        adapters, _ = decompose_part(part, recipe)
        for name, (A, B) in adapters.items():
            W = weight_of(part.layers[name])
            set_weight(part.layers[name], residual_weight(W, A.to(W.device), B.to(W.device), 1.0))
    harness.synchronise()
    return time.perf_counter() - start - making, peak()


if __name__ == "__main__":
    main()
