"""Instructions on a few words, in Alpaca's layout: instruction, input, output."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations
from typing import Any

from ._draw import drawn, of_split

SIZES = {"train": 600, "test": 64}
WORDS = ["red", "stone", "bird", "lamp", "seven", "cloud", "river", "sugar", "paper", "green"]
ORDERS: dict[str, Callable[[list[str]], str]] = {
    "Write the words in capital letters.": lambda words: " ".join(words).upper(),
    "Put commas between the words.": lambda words: ", ".join(words),
    "Write the words in reverse order.": lambda words: " ".join(words[::-1]),
    "Write only the first word.": lambda words: words[0],
    "Write only the last word.": lambda words: words[-1],
    "Make a numbered list of the words.": lambda words: "\n".join(f"{i}. {word}" for i, word in enumerate(words, 1)),
}


def rows(split: str, seed: int) -> list[dict[str, Any]]:
    """Training and test examples differ in their words or their order."""
    possible = [(order, words) for order in ORDERS for words in permutations(WORDS, 3)]
    chosen = drawn(of_split(possible, split, f"instructions {seed}"), SIZES[split], f"instructions {seed} {split}")
    return [{"instruction": o, "input": " ".join(w), "output": ORDERS[o](list(w))} for o, w in chosen]
