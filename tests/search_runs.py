"""A search as run directories: trials that left the test set alone, and fresh runs that did not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from synthetic_runs import make_run

RATE, TEST = "trainer__learning_rate", "evaluator__test"


def trials(root: Path, scores: Mapping[float, Sequence[float | None]], **options: Any) -> list[Path]:
    """Rate -> score on the selection split by search seed 0, 1, ...; None is a run that diverged."""
    paths = []
    for rate, by_seed in scores.items():
        for seed, score in enumerate(by_seed):
            changes: dict[str, Any] = {RATE: rate, TEST: False, "seed": seed, **options}
            if score is None:
                paths.append(
                    make_run(root, state="failed", status={"error": "the loss became nan at step 3"}, **changes)
                )
                continue
            moment = {"step": 5, "epoch": 1.0, "select": {"accuracy": score}, "test": {}, "test_errors": {}}
            paths.append(make_run(root, result={"best": moment, "last": moment, "tested": False}, **changes))
    return paths


def fresh(root: Path, rate: float, scores: Sequence[float], first: int = 100, **options: Any) -> list[Path]:
    """Tested runs at one rate with seeds 100, 101, ..."""
    changes: dict[str, Any] = {RATE: rate, **options}
    return [make_run(root, score, seed=first + i, **changes) for i, score in enumerate(scores)]
