"""Word problems in two steps, in GSM8K's layout: a solution with one calculation per line, then "#### n"."""

from __future__ import annotations

from itertools import product
from typing import Any

from ._draw import drawn, of_split, pick

SIZES = {"train": 600, "test": 64}
NAMES = ["Ada", "Ben", "Ivy", "Leo", "Mia", "Max", "Zoe", "Tom", "Eva", "Sam"]
THINGS = ["pears", "coins", "books", "shells", "cards", "stamps", "eggs", "keys"]
STORIES = {
    "gain then loss": "{name} has {a} {things}, finds {b} and loses {c}. How many {things} are left?",
    "loss then gain": "{name} has {a} {things}, sells {b} and buys {c}. How many {things} does {name} have?",
    "two gains": "{name} has {a} {things}, gets {b} and then {c} more. How many {things} is that?",
}
SIGNS = {"gain then loss": ("+", "-"), "loss then gain": ("-", "+"), "two gains": ("+", "+")}


def rows(split: str, seed: int) -> list[dict[str, Any]]:
    """Training and test problems differ in their story or their numbers."""
    numbers = range(2, 10)
    possible = [problem for problem in product(STORIES, numbers, numbers, numbers) if min(_amounts(*problem)) >= 0]
    chosen = drawn(of_split(possible, split, f"arithmetic {seed}"), SIZES[split], f"arithmetic {seed} {split}")
    return [_row(*problem, seed) for problem in chosen]


def _amounts(story: str, a: int, b: int, c: int) -> tuple[int, int]:
    """What there is after the first step and after the second."""
    first, second = (1 if sign == "+" else -1 for sign in SIGNS[story])
    return a + first * b, a + first * b + second * c


def _row(story: str, a: int, b: int, c: int, seed: int) -> dict[str, Any]:
    key = f"{story} {a} {b} {c}"
    name, things = pick(NAMES, f"name {seed}", key), pick(THINGS, f"thing {seed}", key)
    first, second = SIGNS[story]
    between, result = _amounts(story, a, b, c)
    steps = f"{a}{first}{b}={between}\n{between}{second}{c}={result}"
    question = STORIES[story].format(name=name, things=things, a=a, b=b, c=c)
    return {"question": question, "answer": f"{steps}\n#### {result}"}
