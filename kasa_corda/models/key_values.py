"""The key-value cache under whichever of its two names the installed transformers gives it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transformers.modeling_outputs import BaseModelOutputWithPast

NAMES = ("cache", "past_key_values")
"""since transformers 5.24, and before"""
NAME = next(name for name in NAMES if name in BaseModelOutputWithPast.__dataclass_fields__)


def cache_in(arguments: Mapping[str, Any]) -> Any:
    """The cache among the named arguments of a model or block, or in its output; None where there is none."""
    return next((arguments[name] for name in NAMES if arguments.get(name) is not None), None)
