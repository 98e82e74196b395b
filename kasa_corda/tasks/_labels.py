"""A label as it stands in a file or hub row becomes a class index or a number."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..errors import DataError


def class_index(value: Any, names: Sequence[Any], where: str) -> int:
    """The position of a label's name; ``where`` says file, line and column."""
    if value not in names:
        raise DataError(f"{where}: {value!r} is not one of {', '.join(map(str, names))}")
    return names.index(value)


def number(value: Any, low: float, high: float, where: str) -> float:
    """A finite number within low and high."""
    try:
        parsed = float(value)
    except (TypeError, ValueError):
        raise DataError(f"{where}: {value!r} is not a number") from None
    if not math.isfinite(parsed) or not low <= parsed <= high:
        raise DataError(f"{where}: {value!r} is outside {low:g} to {high:g}")
    return parsed
