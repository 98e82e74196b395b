"""Work that is done together only as far as it fits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def grouped(items: Iterable[tuple[T, int]], limit: int) -> Iterator[list[T]]:
    """Items, given with their sizes, in lists in their order; each list ends with the item that exceeds ``limit``."""
    group: list[T] = []
    size = 0
    for item, counted in items:
        group.append(item)
        size += counted
        if size > limit:
            yield group
            group, size = [], 0
    if group:
        yield group
