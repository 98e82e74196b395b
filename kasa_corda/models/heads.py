"""Which modules of a model form its task head, and which of them are fresh (no torch)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import DataError
from .families import Architecture

PROBLEMS = {"classification": "single_label_classification", "regression": "regression"}
MAY_BE_FRESH = ("classifier", "score", "pooler")


def head_modules(family: Architecture, config: Mapping[str, Any], fresh: Iterable[str]) -> list[str]:
    """The modules that form the trained head: the last layer, and a fresh pooler if model.pooler=trained."""
    pooler = ["pooler"] if "pooler" in fresh and config.get("pooler") == "trained" else []
    return [*pooler, family.fresh[-1]]


def fresh_modules(info: Mapping[str, Any], source: str, allowed: Iterable[str]) -> list[str]:
    """Head modules that the checkpoint does not hold; DataError if anything else is missing."""
    missing = {str(key) for key in info.get("missing_keys", ())}
    missing |= {str(key[0] if isinstance(key, tuple | list) else key) for key in info.get("mismatched_keys", ())}
    owners = {key: next((part for part in key.split(".") if part in allowed), None) for key in sorted(missing)}
    strangers = [key for key, owner in owners.items() if owner is None]
    if strangers:
        shown = ", ".join(strangers[:5]) + (f" and {len(strangers) - 5} more" if len(strangers) > 5 else "")
        raise DataError(f"the weights from {source} are incomplete or of another shape: {shown}")
    return sorted({owner for owner in owners.values() if owner})


def head_notes(family: Architecture, config: Mapping[str, Any], fresh: list[str], classifier: bool) -> list[str]:
    """What the reader of a result should know about the head."""
    notes = []
    if "pooler" in fresh and config.get("pooler") != "trained":
        notes.append("the pooler is not in the checkpoint: it is random and stays frozen (model.pooler=frozen)")
    if classifier and family.fresh[-1] not in fresh:
        notes.append("the task head was in the checkpoint and is trained on from there")
    return notes
