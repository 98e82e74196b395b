"""CorDA's preparation of a small real model on this machine, ours against PEFT's, in full."""

from __future__ import annotations

import copy
import time
from pathlib import Path
from typing import Any

import harness
import torch
import yaml
from layer_weights import CONFIGS
from peers_corda import sine, smallest_left
from peft import LoraConfig
from peft.tuners.lora.config import CordaConfig
from peft.tuners.lora.corda import preprocess_corda
from torch import nn

from kasa_corda.calibration import collect_covariances
from kasa_corda.calibration.samples import Calibration, choose
from kasa_corda.calibration.settings import CalibrationConfig
from kasa_corda.calibration.sources import Texts
from kasa_corda.corda.decomposition import Recipe
from kasa_corda.corda.preparation import prepare
from kasa_corda.corda.presets import PRESETS
from kasa_corda.models.architecture import match_targets
from kasa_corda.models.loading import load_model
from kasa_corda.tasks import TASKS

MODELS = {"minilm": "minilm", "smollm2": "smollm2_135m"}
RANK, SAMPLES, LENGTH = 32, 64, 256
BLOCKS = {"minilm": 6, "smollm2": 10}
"""blocks of the model that are measured, on both sides; SmolLM2 has 30"""


def prepare_small(name: str, out: Path) -> None:
    """64 windows of 256 tokens of movie reviews; both sides under PEFT's switches, then ours under the paper's."""
    config = yaml.safe_load((CONFIGS / f"{MODELS[name]}.yaml").read_text(encoding="utf-8"))
    config.pop("defaults")
    loaded = load_model(config, None if config["kind"] == "decoder" else 2, "classification")
    config["layers"] = BLOCKS[name]
    if config["kind"] == "decoder":
        del loaded.model.model.layers[BLOCKS[name] :]  # type: ignore[union-attr, operator]
    targets = list(match_targets(config, "all_linear"))
    samples = reviews(loaded.tokenizer)
    single = Calibration(CalibrationConfig(batch_size=1), samples.rows, samples.tokenizer, samples.origin)

    print("PEFT", flush=True)
    peer = copy.deepcopy(loaded.model)
    peft_seconds = harness.seconds(lambda: peft_prepares(peer, targets, single))
    print(f"PEFT {peft_seconds:.1f} s", flush=True)
    times, diagnostics = {}, {}
    for variant in ("peft", "paper"):
        model, recipe = copy.deepcopy(loaded.model), Recipe("kpa", RANK, 1.0, PRESETS[variant])
        start = time.perf_counter()
        diagnostics[variant] = prepare(model, targets, samples, recipe)
        times[variant] = time.perf_counter() - start
        print(f"ours ({variant}) {times[variant]:.1f} s", flush=True)
    rows = errors(loaded.model, peer, diagnostics["peft"], single)
    worst = max(row["error_ours"] for row in rows), max(row["error_peft"] for row in rows)
    layers = diagnostics["paper"].diagnostics
    routes = {route: sum(row["route"] == route for row in layers) for route in {row["route"] for row in layers}}
    harness.Result(
        f"corda_prepare_{name}_cpu",
        f"How much faster is CorDA's preparation of {name} than PEFT's preprocess_corda on a CPU?",
        {
            "ours": harness.Side("prepare, streamed, batch 8, the paper's switches", [times["paper"]]),
            "ours, PEFT's switches": harness.Side("the same with PEFT's normalisation and damping", [times["peft"]]),
            "peft": harness.Side("preprocess_corda, batch 1", [peft_seconds]),
        },
        f"sine of the largest angle to the float64 definition on {len(rows)} layers, PEFT's switches: ours at most"
        f" {worst[0]:.1e}, PEFT at most {worst[1]:.1e}",
        peft_seconds / times["paper"],
        "faster than PEFT",
        peft_seconds > times["paper"],
        [
            config.get("approximation") or "released weights",
            f"{len(targets)} layers of the first {BLOCKS[name]} blocks, rank {RANK}, {SAMPLES} x {LENGTH} tokens of"
            f" {samples.origin}, {torch.get_num_threads()} threads",
            f"routes: {routes}",
            *diagnostics["paper"].notes,
        ],
        rows,
    ).write(out)


def reviews(tokenizer: Any) -> Calibration:
    config: Any = yaml.safe_load((CONFIGS.parent / "task" / "reviews.yaml").read_text(encoding="utf-8"))
    config.pop("defaults")
    task = TASKS["reviews"](TASKS["reviews"].Config(**config))
    texts = Texts("movie reviews", [example.text for example in task.load(None, "held_out").train])
    return choose([texts], CalibrationConfig(reading="windows", samples=SAMPLES, length=LENGTH), tokenizer)


def peft_prepares(model: nn.Module, targets: list[str], calibration: Calibration) -> None:
    config = LoraConfig(r=RANK, lora_alpha=RANK, target_modules=targets, init_lora_weights="corda")
    config.corda_config = CordaConfig(corda_method="kpm")
    preprocess_corda(model, config, run_model=lambda: [model(**batch) for batch in calibration.batches()])


def errors(model: nn.Module, peer: nn.Module, prepared: Any, calibration: Calibration) -> list[dict[str, Any]]:
    """One layer of each shape against float64 throughout (activations in the model's own precision)."""
    first: dict[tuple[int, int], dict[str, Any]] = {}
    for row in prepared.diagnostics:
        first.setdefault((row["out"], row["in"]), row)
    names = [row["layer"] for row in first.values()]
    switches = {"normalisation": "signed_max", "divisor": "calls", "precision": "float64"}
    covariances = collect_covariances(model, calibration.batches(), names, **switches)  # type: ignore[arg-type]
    rows = []
    for row in first.values():
        name = row["layer"]
        C = covariances[name].matrix.clone()
        C.diagonal().add_(row["damping"] * C.diagonal().mean())
        reference = smallest_left(model.get_submodule(name).weight.detach().double() @ C, RANK)
        eigens: Any = peer.get_submodule(name).eigens
        rows.append(
            {
                "layer": name,
                "shape": f"{row['out']} x {row['in']}",
                "error_ours": sine(prepared.adapters[name][1].double(), reference),
                "error_peft": sine(eigens.U_WC.double(), reference),
                "route": row["route"],
            }
        )
    return rows
