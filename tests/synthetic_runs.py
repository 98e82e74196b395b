"""Run directories as the pipeline leaves them, made in a millisecond, for the tests of the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from kasa_corda.report.records import read_runs
from kasa_corda.report.tables import Table, build_tables


def config_of(task: str, method: str, seed: int, changes: dict[str, Any]) -> dict[str, Any]:
    config: dict[str, Any] = {
        "seed": seed,
        "selection": "held_out",
        "run_root": "runs",
        "model": {"name": "minilm", "approximation": None, "path": None},
        "method": {"name": method, "label": None, "learning_rate": 1e-3, "rank": 8},
        "task": {"name": task, "family": "glue", "metric": "accuracy", "train_examples": None},
        "trainer": {"learning_rate": 1e-3, "epochs": 3.0, "log_every": 10},
        "scale": {"name": "pocket", "devices": 1, "threads": None},
    }
    for key, value in changes.items():
        *groups, last = key.split(".")
        place = config
        for group in groups:
            place = place.setdefault(group, {})
        place[last] = value
    return config


def make_run(
    root: Path,
    score: float | None = 0.5,
    *,
    task: str = "glue/rte",
    method: str = "lora",
    seed: int = 0,
    state: str = "finished",
    status: dict[str, Any] | None = None,
    right: list[float] | None = None,
    events: list[dict[str, Any]] | None = None,
    result: dict[str, Any] | None = None,
    name: str | None = None,
    **changes: Any,
) -> Path:
    """One run directory as the pipeline leaves it; ``changes`` are dotted config keys."""
    changes = {key.replace("__", "."): value for key, value in changes.items()}
    config = config_of(task, method, seed, changes)
    config_text = yaml.safe_dump(config, sort_keys=False)
    path = root / task / config["model"]["name"] / method / (name or f"{abs(hash(config_text)):012x}"[:12])
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.yaml").write_text(config_text)
    (path / "status.json").write_text(
        json.dumps({"state": state, "attempt": 1, "pid": 1, "time": 1.0, **(status or {})})
    )
    if state != "finished":
        return path
    content = {
        "label": config["method"]["label"] or method,
        "variant": config["method"].get("variant"),
        "metric": "accuracy",
        "higher_is_better": True,
        "best": {"step": 20, "epoch": 2.0, "select": {"accuracy": 0.7}, "test": {"accuracy": score}},
        "last": {"step": 30, "epoch": 3.0, "select": {"accuracy": 0.6}, "test": {"accuracy": (score or 0) - 0.01}},
        "task": task,
        "model": config["model"]["name"],
        "seed": seed,
        "parameters": {"trainable": 1000, "adapter": 900, "head": 100, "total": 5000},
        "seconds": {"load": 1.0, "fit": 8.0, "total": 10.0 + seed},
        "peak_memory_bytes": {"host": 2**30, "device": None},
        "throughput": {"examples_per_second": 100.0, "tokens_per_second": 2000.0},
        "model_source": {"source": "package", "fingerprint": "m0", "approximation": None},
        "data": {"source": "folder", "fingerprint": f"d-{task}", "counts": {"test": 4}},
        "provenance": {
            "command": f"python run.py method={method}",
            "git": {"sha": "abc", "dirty": False},
            "device": "CPU",
        },
        "notes": [],
        **(result or {}),
    }
    (path / "result.json").write_text(json.dumps(content))
    if right is not None:
        (path / "predictions").mkdir()
        rows = [{"id": f"e{i}", "prediction": 0, "reference": 0, "score": value} for i, value in enumerate(right)]
        (path / "predictions" / "test.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
        (path / "predictions" / "test_last.jsonl").write_text('{"id": "e0", "score": 99.0}\n')
    if events is not None:
        (path / "metrics.jsonl").write_text("\n".join(map(json.dumps, events)) + '\n{"event": "tr')
    return path


def make_scores(root: Path, scores: dict[str, list[float]], **options: Any) -> None:
    for method, values in scores.items():
        for seed, score in enumerate(values):
            make_run(root, score, method=method, seed=seed, **options)


def only_table(root: Path, **options: Any) -> Table:
    (table,) = build_tables(read_runs([root]), **options)
    return table
