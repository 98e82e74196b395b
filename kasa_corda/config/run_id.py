"""The run id: a hash of everything that can change a result, and nothing else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cache
from typing import Any

from .schema import ModelConfig, RunConfig, TrainerConfig, field_help

VOLATILE = {
    "": ("data_dir", "run_root", "dry_run", "force", "resume", "tracker", "scale"),
    "model": ("path", "gated"),
    "method": ("label", "learning_rate", "budget"),
    "task": ("max_truncated",),
    "calibration": ("mode", "batch_size", "offload"),
    "trainer": ("checkpoint_every", "log_every", "keep_weights"),
    "evaluator": (
        "save_predictions",
        "vllm_python",
        *(f"judge.{key}" for key in ("api_key_env", "price_in", "price_out", "max_cost")),
        *(f"judge.{key}" for key in ("workers", "retries", "timeout")),
    ),
}
"""group -> keys; a dot leads into a key that holds keys itself"""


def calibrated(config: dict[str, Any]) -> bool:
    """Whether the method looks at calibration samples."""
    from ..methods import METHODS

    chosen = config["method"]
    return METHODS[chosen["name"]].calibrated and chosen.get("decomposition") != "plain"


def without(settings: dict[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    """Settings without ``keys``."""
    kept = {name: value for name, value in settings.items() if name not in keys}
    for name, value in kept.items():
        if isinstance(value, dict):
            kept[name] = without(value, [key.removeprefix(f"{name}.") for key in keys if key.startswith(f"{name}.")])
    return kept


@cache
def late_defaults(schema: type) -> dict[str, Any]:
    return {field.name: field.default for field in field_help(schema) if field.limits.get("later")}


def early(settings: dict[str, Any], schema: type) -> dict[str, Any]:
    """Settings without the keys added after runs had been made (``later`` in their ``option``), at their default."""
    later = late_defaults(schema)
    return {key: value for key, value in settings.items() if key not in later or value != later[key]}


def early_task(settings: dict[str, Any]) -> dict[str, Any]:
    """The same of a task and of the further tasks it evaluates."""
    from ..tasks import TASKS

    kept = early(settings, TASKS[settings["family"]].Config)
    if further := kept.get("also_evaluate"):
        kept["also_evaluate"] = {name: early_task(task) for name, task in further.items()}
    return kept


def early_groups(config: dict[str, Any]) -> dict[str, Any]:
    """A config without such keys in the groups that have any."""
    from ..evaluation import EVALUATORS

    kept = early(config, RunConfig)
    if "task" in kept:
        kept["task"] = early_task(kept["task"])
    if "evaluator" in kept:
        kept["evaluator"] = early(kept["evaluator"], EVALUATORS[kept["evaluator"]["name"]].Config)
    if "model" in kept:
        kept["model"] = early(kept["model"], ModelConfig)
    if "trainer" in kept:
        kept["trainer"] = early(kept["trainer"], TrainerConfig)
    return kept


def run_id(config: dict[str, Any]) -> str:
    """First 12 hex digits of the sha256 of the canonical JSON of a resolved config.

    Paths, trackers, launchers and labels don't count: they can't change the result. A model that
    exists only as a local folder is told apart by a fingerprint of its files.
    """
    from ..methods import METHODS
    from ..methods.untrained import adapter_fingerprint
    from ..models.fingerprint import sampled_fingerprint

    kept = {key: value for key, value in config.items() if key not in VOLATILE[""]}
    for group, keys in VOLATILE.items():
        if group and isinstance(kept.get(group), dict):
            kept[group] = without(kept[group], keys)
    kept = early_groups(kept)
    if not METHODS[config["method"]["name"]].trains:
        kept.pop("trainer", None)
    if path := config["method"].get("path"):
        kept["method"] = {**kept["method"], "path": adapter_fingerprint(path)}
    if not calibrated(config):
        kept.pop("calibration", None)
    if (
        kept["method"].get("optimizer") == "adamw"
    ):  # what every method of LoRA's shape trains with unless told otherwise
        kept["method"] = {k: v for k, v in kept["method"].items() if k not in ("optimizer", "lr_ratio")}
    model = config["model"]
    if model.get("path"):
        kept["model"]["fingerprint"] = sampled_fingerprint(model["path"], bool(model.get("allow_pickle")))
    text = json.dumps(kept, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
