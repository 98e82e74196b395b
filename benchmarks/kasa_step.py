"""Does a whole KaSA training step cost more than LoRA's at the same rank?

    python benchmarks/kasa_step.py --size 1b       # LLaMA architecture, random weights, bfloat16, on a GPU
    python benchmarks/kasa_step.py --size toy      # the same script on a CPU

Forward, backward, auxiliary loss and AdamW step, all linear layers adapted. The truncation costs a step nothing
when it is folded into the base; ``low_rank`` is the other extreme, a float32 correction in every layer.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from harness import Result, Side, arguments, seconds, synchronise
from transformers import LlamaConfig, LlamaForCausalLM

from kasa_corda.kasa.layers import adapter, layers
from kasa_corda.kasa.truncation import Cut
from kasa_corda.methods.base import AdaptContext
from kasa_corda.methods.kasa import Kasa, KasaConfig
from kasa_corda.methods.lora import Lora

TARGETS = [f"{name}_proj" for name in ("q", "k", "v", "o", "gate", "up", "down")]
LIMIT = 1.05


@dataclass(frozen=True)
class Size:
    hidden: int
    inner: int
    blocks: int
    heads: int
    rank: int
    batch: int
    length: int


SIZES = {
    "toy": Size(hidden=512, inner=1376, blocks=4, heads=8, rank=8, batch=4, length=128),
    "1b": Size(hidden=2048, inner=5504, blocks=24, heads=16, rank=32, batch=8, length=512),
    "7b": Size(hidden=4096, inner=11008, blocks=32, heads=32, rank=32, batch=8, length=1024),
}


def base_model(size: Size, device: str) -> Any:
    config = LlamaConfig(
        vocab_size=32000 if device == "cuda" else 1000,
        hidden_size=size.hidden,
        intermediate_size=size.inner,
        num_hidden_layers=size.blocks,
        num_attention_heads=size.heads,
        use_cache=False,
    )
    with torch.device(device):
        model = LlamaForCausalLM._from_config(config, dtype=torch.bfloat16 if device == "cuda" else torch.float32)
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.enable_input_require_grads()
    return model


def correct_every_layer(model: Any, rank: int) -> None:
    """Float32 corrections of the rank that truncation would leave; their values don't matter to the clock."""
    for _, layer in layers(model):
        A, _, B = adapter(layer)
        up, down = torch.randn(B.shape[0], rank) * 1e-4, torch.randn(rank, A.shape[1]) * 1e-4
        layer.write(Cut(up, down, "left", "low_rank"), None)


def stepper(kind: str, size: Size, device: str) -> Callable[[], None]:
    """One training step of a fresh model of this kind: lora, fold or low_rank."""
    options: dict[str, Any] = {"name": "kasa", "rank": size.rank, "alpha": 2.0 * size.rank}
    method = Lora(KasaConfig(**options)) if kind == "lora" else Kasa(KasaConfig(**options, control="no_truncation"))
    model: Any = method.adapt(base_model(size, device), AdaptContext(TARGETS, [], "CAUSAL_LM", 0, 1)).train()
    if kind == "low_rank":
        correct_every_layer(model, size.rank)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], fused=device == "cuda")
    tokens = torch.randint(0, 1000, (size.batch, size.length), device=device)

    def step() -> None:
        with torch.autocast("cuda", torch.bfloat16) if device == "cuda" else nullcontext():
            loss = model(input_ids=tokens, labels=tokens).loss
        loss.backward()
        method.add_auxiliary_gradient(model, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def peak_bytes(step: Callable[[], None], others: int) -> float:
    """Highest GPU memory of one step, without what the other models hold."""
    torch.cuda.reset_peak_memory_stats()
    step()
    synchronise()
    return float(torch.cuda.max_memory_allocated() - others)


def main() -> None:
    on_gpu = torch.cuda.is_available()
    chosen = arguments(__doc__, size="1b" if on_gpu else "toy", rounds=10, limit=60.0)
    device = "cuda" if on_gpu else "cpu"
    size, kinds = SIZES[chosen.size], ("fold", "low_rank", "lora")
    steps, held = {}, {}
    for kind in kinds:
        before = torch.cuda.memory_allocated() if on_gpu else 0
        steps[kind] = stepper(kind, size, device)
        steps[kind]()  # the optimizer's moments are made in the first step
        synchronise()
        held[kind] = (torch.cuda.memory_allocated() if on_gpu else 0) - before
    memory: dict[str, float] = {}
    if on_gpu:
        memory = {kind: peak_bytes(steps[kind], sum(held.values()) - held[kind]) for kind in kinds}
    samples: dict[str, list[float]] = {kind: [] for kind in kinds}
    began = time.perf_counter()
    while len(samples["lora"]) < chosen.rounds and time.perf_counter() - began < chosen.limit:
        for kind in kinds:
            samples[kind].append(seconds(steps[kind]))

    medians = {kind: statistics.median(samples[kind]) for kind in kinds}
    ratio = medians["fold"] / medians["lora"]
    table = [
        {
            "what": kind,
            "seconds": medians[kind],
            "time_over_lora": medians[kind] / medians["lora"],
            **({"peak_bytes": memory[kind], "memory_over_lora": memory[kind] / memory["lora"]} if memory else {}),
        }
        for kind in kinds
    ]
    memory_holds = not memory or memory["fold"] <= LIMIT * memory["lora"]
    Result(
        name="kasa_step" if on_gpu else "kasa_step_cpu",
        question=f"One training step of a LLaMA-architecture model ({chosen.size}, {size.batch} x {size.length} tokens,"
        f" rank {size.rank}, all linear layers): KaSA's time and memory over LoRA's?",
        sides={
            "ours": Side("KaSA, truncation folded into the base, auxiliary loss included", samples["fold"]),
            "low_rank": Side("KaSA with a float32 correction in every layer", samples["low_rank"]),
            "peft_lora": Side("peft's LoRA at the same rank", samples["lora"]),
        },
        same_answer="different methods; both run the same base, tokens and optimizer",
        ratio=ratio,
        target=f"ours / LoRA at most {LIMIT} in time" + (" and peak memory" if memory else ""),
        holds=ratio <= LIMIT and memory_holds,
        notes=[
            "random weights: a step's cost doesn't depend on their values; gradient checkpointing on",
            f"{len(samples['lora'])} rounds, the three kinds in turn" + ("" if memory else "; memory only on a GPU"),
        ],
        table=table,
    ).write(chosen.out)


if __name__ == "__main__":
    main()
