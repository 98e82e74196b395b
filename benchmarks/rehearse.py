"""Ten steps of the papers' settings on random weights of the real shapes, one per model family: seconds and memory.

    python benchmarks/rehearse.py                                     # all families, on a GPU of 80 GB: some minutes
    python benchmarks/rehearse.py --models roberta_base --steps 3     # also on a CPU
    python benchmarks/rehearse.py --cpu                               # small made-up shapes, seconds (CI)

No hub, no data: made-up tokens of each task's lengths. Stored in benchmarks/results/cost/<device>/<model>.json, where
plans find them; then predicted against measured, with the figures that the other files gave. Target: within 20 %.
"""

from __future__ import annotations

import argparse
import gc
import shlex
import time
from dataclasses import replace
from pathlib import Path

import torch

from kasa_corda.cli.compose import composed
from kasa_corda.cost.fitting import fitted, refined
from kasa_corda.cost.observed import Comparison, Observation, as_json, compared, read, spread
from kasa_corda.cost.profile import MEASURED, Profile, profile_for, read_profiles, slug
from kasa_corda.cost.rehearsal import rehearse

TARGET = 0.2
GLUE = ("scale=paper", "method=kasa", "task=glue/cola")
KASA_7B = shlex.split(
    "method=kasa method.rank=32 method.alpha=64 method.dropout=0.05 method.target_modules=five"
    " trainer.learning_rate=3e-4 trainer.batch_size=16 trainer.accumulation=4 trainer.precision=bf16"
    " trainer.group_by_length=false task=commonsense/commonsense_170k task.max_length=256"
)
CORDA_7B = shlex.split(
    "method=corda_ipa method.rank=128 method.alpha=128 method.target_modules=all_linear trainer.learning_rate=2e-5"
    " trainer.batch_size=128 trainer.accumulation=16 trainer.precision=bf16 trainer.group_by_length=false"
    " task=metamath task.max_length=512"
)
E2E = shlex.split(
    "method=kasa method.rank=4 method.alpha=32 method.target_modules=qv trainer.learning_rate=2e-4"
    " trainer.batch_size=8 trainer.group_by_length=false task=e2e"
)

FAMILIES: dict[str, tuple[str, ...]] = {
    "roberta_base": GLUE,
    "deberta_v3_base": GLUE,
    "gpt2_medium": tuple(E2E),
    "llama2_7b": tuple(CORDA_7B),
    "mistral_7b": tuple(KASA_7B),
    "gemma_7b": tuple(KASA_7B),
    "qwen2_5_7b": tuple(KASA_7B),
}
"""model -> the settings of its paper (facts: KaSA's logs and README, CorDA's paper); accumulation is ours"""

POCKET: dict[str, tuple[str, ...]] = {
    "minilm": ("method=lora", "task=glue/mrpc"),
    "smollm2_135m": ("method=lora", "method.target_modules=all_linear", "trainer.batch_size=4", "task=gsm8k"),
}
"""model -> settings of the pocket suites, for machines without a GPU"""

SMALL = ("roberta_base", "gpt2_medium", "llama3_2_1b")
SMALL_SHAPE = shlex.split(
    "model.layers=2 model.hidden_size=64 model.intermediate_size=128 model.heads=4 model.vocab_size=1000"
    " trainer.batch_size=4 trainer.accumulation=1 method.rank=4 task.max_length=48 model.dtype=float32"
    " trainer.precision=fp32"
)


def one(model: str, steps: int, small: bool) -> Observation:
    """The rehearsal of one family. Truncation of random weights would measure nothing real: KaSA goes without."""
    settings = [*(FAMILIES | POCKET).get(model, KASA_7B), f"model={model}"]
    if small:
        settings += [*SMALL_SHAPE, *(["model.kv_heads=2", "model.head_dim=16"] if model.startswith("llama3") else [])]
    if "method=kasa" in settings:
        settings.append("method.control=no_truncation")
    return rehearse(composed(settings), steps=steps, name=f"rehearsal: {model}")


def shown(comparisons: list[Comparison], title: str) -> None:
    print(title)
    for c in comparisons:
        unit = "s" if c.what == "step" else "GiB"
        scale = 1 if c.what == "step" else 2**30
        print(
            f"  {c.name:28} {c.what:14} measured {c.measured / scale:9.3f} {unit:3} predicted"
            f" {c.predicted / scale:9.3f} {unit:3} {100 * c.error:+5.0f} %"
        )
    for what in sorted({c.what for c in comparisons}):
        if summary := spread([c for c in comparisons if c.what == what]):
            verdict = "within" if abs(summary[1].error) <= TARGET else "NOT within"
            print(
                f"  {what}: median {100 * summary[0]:.0f} %, worst {100 * summary[1].error:+.0f} %:"
                f" {verdict} {100 * TARGET:.0f} %"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(FAMILIES), help="names of configs/model, with commas")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--cpu", action="store_true", help="small made-up shapes")
    parser.add_argument("--out", type=Path, default=MEASURED)
    chosen = parser.parse_args()
    done = []
    for model in SMALL if chosen.cpu else chosen.models.split(","):
        began = time.perf_counter()
        try:
            found = one(model, chosen.steps, chosen.cpu)
        except torch.cuda.OutOfMemoryError as error:
            print(f"{model}: out of memory ({str(error).splitlines()[0]})", flush=True)
            continue
        folder = chosen.out / slug(found.device)
        folder.mkdir(parents=True, exist_ok=True)
        if not chosen.cpu:
            (folder / f"{model}.json").write_text(as_json([found]), encoding="utf-8")
        done.append(found)
        taken = time.perf_counter() - began
        print(f"{model}: {found.seconds['step']:.4f} s a step ({taken:.0f} s in all)", flush=True)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    if not done:
        raise SystemExit("nothing was measured")
    device = done[0].device
    stored = read_profiles().get(device) or profile_for(device)
    shown([c for each in done for c in compared(each, stored)], "with the stored figures (before these measurements):")
    folder = chosen.out / slug(device)
    every = read(folder)
    if len(every) < 3 or chosen.cpu:
        return
    names = {each.name for each in done}
    again = refined(replace(stored, fitted_on=""), folder)
    shown([c for each in every if each.name in names for c in compared(each, again)], "with figures fitted to all:")
    alone = [c for each in done for c in compared(each, _without(stored, every, each)) if c.what == "step"]
    shown(alone, "each predicted from all other measurements:")


def _without(stored: Profile, every: list[Observation], left: Observation) -> Profile:
    """The profile fitted to all measurements but one."""
    return fitted(stored, [each for each in every if each.name != left.name])


if __name__ == "__main__":
    main()
