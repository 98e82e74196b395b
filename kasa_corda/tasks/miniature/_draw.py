"""Draws that depend on names alone, not on a random generator."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from .._splits import digest

Item = TypeVar("Item")

TEST_SHARE = 5
"""one in so many combinations belongs to the test set"""


def drawn(items: Iterable[Item], count: int, purpose: str, key: Callable[[Item], str] = repr) -> list[Item]:
    """``count`` items in an order drawn from their keys; a smaller draw begins a larger one."""
    return sorted(items, key=lambda item: digest(purpose, key(item)))[:count]


def of_split(items: Iterable[Item], split: str, purpose: str, key: Callable[[Item], str] = repr) -> list[Item]:
    """The items of one split: every item belongs to exactly one, by the hash of its key."""
    return [item for item in items if (digest(purpose, key(item)) % TEST_SHARE == 0) == (split == "test")]


def pick(options: list[Item], purpose: str, key: str) -> Item:
    """One of the options, drawn from the key."""
    return options[digest(purpose, key) % len(options)]
