"""Questions with two choices, in the LLM-Adapters layout: which of two things is of a kind."""

from __future__ import annotations

from itertools import permutations
from typing import Any

from ._draw import drawn, of_split, pick

SIZES = {"train": 600, "test": 64}
KINDS = {
    "an animal": ["horse", "duck", "goat", "tiger", "mouse", "frog"],
    "a colour": ["red", "green", "blue", "yellow", "brown", "pink"],
    "a tool": ["hammer", "saw", "drill", "axe", "wrench", "shovel"],
    "a fruit": ["apple", "banana", "cherry", "lemon", "plum", "grape"],
    "a country": ["France", "Brazil", "Egypt", "Japan", "Norway", "Peru"],
}
NAMES = ["answer1", "answer2"]


def rows(split: str, seed: int) -> list[dict[str, Any]]:
    """Training and test questions differ in a thing; the right choice is the first about as often as the second."""
    possible = [
        (kind, right, wrong)
        for kind, other in permutations(KINDS, 2)
        for right in KINDS[kind]
        for wrong in KINDS[other]
    ]
    chosen = drawn(of_split(possible, split, f"choices {seed}"), SIZES[split], f"choices {seed} {split}")
    return [_row(*question, seed) for question in chosen]


def _row(kind: str, right: str, wrong: str, seed: int) -> dict[str, Any]:
    answer = pick(NAMES, f"place {seed}", f"{kind} {right} {wrong}")
    first, second = (right, wrong) if answer == NAMES[0] else (wrong, right)
    question = f"Which one is {kind}? Answer1: {first} Answer2: {second}\n\nAnswer format: answer1/answer2"
    return {"instruction": question, "input": "", "output": f"the correct answer is {answer}", "answer": answer}
