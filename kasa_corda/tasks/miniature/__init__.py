"""Miniatures: generated tasks of the papers' shapes, that a small model learns in a minute and that need no download.

Every example is drawn by hash alone: the same on every machine. Training and test examples differ by construction.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ...errors import ConfigError, unknown
from .._files import Row

NAMES = ("arithmetic", "choices", "facts", "functions", "instructions", "known_facts", "restaurants")
"""one module each, whose ``rows(split, seed)`` gives rows in the layout of the family's files"""


def rows_of(name: str, split: str, seed: int = 0) -> list[Row]:
    """The examples of one split, train or test; ConfigError if there is no such generator."""
    if name not in NAMES:
        raise ConfigError(unknown("task.generated", name, NAMES))
    made: list[dict[str, Any]] = import_module(f"{__name__}.{name}").rows(split, seed)
    return [Row(values, f"generator {name}, {split} row {index}") for index, values in enumerate(made)]
