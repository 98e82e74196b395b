"""CorDA's preparation (covariances, decomposition, residual weights) of a whole model, ours against PEFT's.

python benchmarks/corda_prepare.py                       LLaMA-2-7B shape, 256 x 2048 tokens (one GPU)
python benchmarks/corda_prepare.py --blocks 8 --samples 64 --peft-samples 8     the same cut down, scaled
python benchmarks/corda_prepare.py --scale toy           the same steps on small blocks
python benchmarks/corda_prepare.py --model smollm2       real weights of SmolLM2 (or minilm) on this machine
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import harness
from layer_weights import MADE
from made_llama import GIB, SHAPES, Plan, calibration_of, empty_cache, memory_now, model_of, peak, recipe_of
from peers_corda import compare_subspaces, peft_prepares
from torch import nn

from kasa_corda.corda.preparation import prepare

Rows = list[dict[str, Any]]


def main() -> None:
    chosen = harness.arguments(
        __doc__, scale="7b", model="", blocks=0, samples=0, rank=0, peft_blocks=2, peft_samples=32
    )
    if chosen.model:
        from small_corda import prepare_small

        prepare_small(chosen.model, chosen.out)
        return
    plan = Plan.of(chosen.scale, chosen.samples, chosen.rank)
    total = SHAPES[plan.shape][-1]
    whole_preparation(
        plan, min(chosen.blocks or total, total), chosen.peft_blocks, min(chosen.peft_samples, plan.samples), chosen.out
    )


def whole_preparation(plan: Plan, blocks: int, peft_blocks: int, peft_samples: int, out: Path) -> None:
    """Ours on ``blocks`` blocks, PEFT's on a few blocks and samples; the same answer is checked before timing."""
    total = SHAPES[plan.shape][-1]
    part = calibration_of(replace(plan, samples=peft_samples, batch=1))
    angles = compare_subspaces(model_of(plan, peft_blocks), part, plan.rank)
    empty_cache()
    peer = peft_prepares(model_of(plan, peft_blocks), part, plan.rank)
    print(f"PEFT on {peft_blocks} blocks and {peft_samples} samples: {peer}", flush=True)
    like_peft, _, _ = ours(plan, peft_blocks, "peft")
    seconds, extra, rows = ours(plan, blocks, "paper")
    scaled_ours = seconds * total / blocks
    scaled_peer = peer.scaled(plan.samples / peft_samples, total / peft_blocks)
    ratio = scaled_peer / scaled_ours
    worst = {side: max(row[f"error_{side}"] for row in angles) for side in ("ours", "peft")}
    harness.Result(
        f"corda_prepare_{plan.shape}" + ("" if plan.device.type == "cuda" else "_cpu"),
        "How much faster is CorDA's preparation of a whole model than PEFT's preprocess_corda?",
        {
            "ours": harness.Side("prepare, streamed, hidden states in CPU memory", [scaled_ours]),
            "ours, PEFT's switches": harness.Side("the same, scaled from a part", [like_peft * total / peft_blocks]),
            "peft": harness.Side("preprocess_corda, scaled from a part", [scaled_peer]),
        },
        "sine of the largest angle between kept subspace and float64 definition, same switches and samples, one layer"
        f" of each shape: ours at most {worst['ours']:.1e}, PEFT at most {worst['peft']:.1e}",
        ratio,
        "at least 12 times faster, GPU memory at most the model + 4 GiB",
        ratio >= 12 and extra["extra"] <= 4 * GIB,
        [
            MADE,
            f"calibration: {plan.samples} x {plan.length} random tokens, KPA, rank {plan.rank}, model in bfloat16",
            f"PEFT measured on {peft_blocks} blocks with {peft_samples} samples (batch 1): covariances and forward"
            f" passes {peer.covariances:.1f} s, decompositions {peer.decompositions:.1f} s; the first scaled by"
            f" {plan.samples}/{peft_samples} samples, both by {total}/{peft_blocks} blocks",
            f"ours measured on {blocks} of {total} blocks" + ("" if blocks == total else ", scaled to all"),
            f"ours under PEFT's switches (signed maximum, float32 inverse at every layer) measured on {peft_blocks}"
            f" blocks, scaled to {total}; it is the ratio's denominator nowhere",
            f"routes of {len(rows)} subspaces: {dict(Counter(row['route'] for row in rows))}, after a fallback:"
            f" {sum(bool(row['fallback']) for row in rows)}; damped layers: {sum(row['damping'] > 0 for row in rows)}",
            f"GPU memory of ours: model {extra['model'] / GIB:.2f} GiB, at most {extra['extra'] / GIB:.2f} GiB more",
        ],
        angles,
    ).write(out)


def ours(plan: Plan, blocks: int, variant: str) -> tuple[float, dict[str, int], Rows]:
    """Seconds of our preparation, its GPU memory, and its diagnostics."""
    model = model_of(plan, blocks)
    calibration = calibration_of(plan, mode="streamed", offload="always")
    targets = [name for name, layer in model.named_modules() if isinstance(layer, nn.Linear)]
    before = memory_now()
    rows: Rows = []
    seconds = harness.seconds(
        lambda: rows.extend(prepare(model, targets, calibration, recipe_of(plan, variant)).diagnostics)
    )
    print(f"ours ({variant} switches): {blocks} blocks in {seconds:.1f} s", flush=True)
    return seconds, {"model": before, "extra": max(0, peak() - before)}, rows


if __name__ == "__main__":
    main()
