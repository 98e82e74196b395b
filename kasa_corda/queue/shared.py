"""What several runs need and one of them makes: base evaluations, preparations, subspaces.

Each lies in a cache on disk. The queue starts the first run that needs it alone; the others follow once it has begun to
train. Runs that are started in other ways (joblib, Slurm, several commands) wait for each other on a file lock.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..config import RunConfig

SPECTRAL = ("kasa", "lora_xs", "milora", "olora", "pissa")
"""methods that keep subspaces of the pretrained weights in the spectral cache"""
SEEDED = ("eva", "lora_ga")
"""methods that prepare on the first training batches, which the seed draws"""
NO_ARTEFACT = ("label", "learning_rate", "budget", "dropout", "optimizer", "lr_ratio")
"""options of a method that change nothing that is prepared"""


def artefacts(config: RunConfig) -> tuple[str, ...]:
    """Names of what this run needs and others may need too."""
    found = [key] if (key := preparation(config)) else []
    if config.evaluator.forgetting:
        evaluator = {**asdict(config.evaluator), "model": asdict(config.model), "further": _further(config)}
        found.append(f"base evaluation {_digest(evaluator)}")
    return tuple(found)


def preparation(config: RunConfig) -> str | None:
    """A name of what the method's preparation makes; None if it makes nothing that is kept."""
    from ..methods import METHODS

    name = config.method.name
    calibrated = METHODS[name].calibrated
    if not calibrated and name not in (*SPECTRAL, *SEEDED):
        return None
    method = {key: value for key, value in asdict(config.method).items() if key not in NO_ARTEFACT}
    needed: dict[str, Any] = {"model": asdict(config.model), "method": method}
    if calibrated:
        needed |= {"calibration": config.calibration, "task": asdict(config.task)}
    if name in SEEDED:
        needed |= {"task": asdict(config.task), "seed": config.seed, "batch": config.trainer.batch_size}
    return f"preparation {_digest(needed)}"


@contextmanager
def preparing(config: RunConfig) -> Iterator[None]:
    """Hold what the method is about to prepare: another process that needs the same waits, then finds it cached."""
    from ..models.cache import cache_dir, locked

    key = preparation(config)
    alone = config.scale.devices == 1  # processes of one run wait for each other, no place to wait for another run
    folder = cache_dir() / "locks" / str(key)
    with locked(folder, f"preparing {config.method.name}") if key and alone and shares() else nullcontext():
        yield


def shares() -> bool:
    """Whether this run is one of several that share what they prepare."""
    return bool(os.environ.get("KASA_CORDA_SHARED"))


@contextmanager
def sharing() -> Iterator[None]:
    """Runs made inside, and in processes started inside, keep what they prepare for each other."""
    before = os.environ.get("KASA_CORDA_SHARED")
    os.environ["KASA_CORDA_SHARED"] = "1"
    try:
        yield
    finally:
        os.environ.pop("KASA_CORDA_SHARED")
        if before is not None:
            os.environ["KASA_CORDA_SHARED"] = before


def _further(config: RunConfig) -> Any:
    return getattr(config.task, "also_evaluate", None)


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _plain(value: Any) -> Any:
    from dataclasses import is_dataclass

    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else str(value)
