"""Small functions with tests, in HumanEval's layout: a signature with a description, a body, and assertions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ._draw import drawn, of_split

SIZES = {"train": 300, "test": 40}
WORDS = ["thunderstorm", "watermelon", "ox"]
NUMBERS = [-4, 0, 3, 11]
LISTS = [list(range(24)), [5, 3, 8, 1, 9, 2, 7, 4, 6, 0, 15, 13, 18, 11, 19, 12, 17], []]


@dataclass(frozen=True)
class Step:
    """One operation: what it is called, what it does in words and in Python, with {n} as its number."""

    name: str
    words: str
    code: str
    apply: Callable[[Any, int], Any]


OF_NUMBERS = [
    Step("plus_{n}", "add {n}", "x + {n}", lambda x, n: x + n),
    Step("minus_{n}", "subtract {n}", "x - {n}", lambda x, n: x - n),
    Step("times_{n}", "multiply by {n}", "x * {n}", lambda x, n: x * n),
]
OF_WORDS = [
    Step("repeat_{n}", "repeat it {n} times", "x * {n}", lambda x, n: x * n),
    Step("without_first_{n}", "drop the first {n} letters", "x[{n}:]", lambda x, n: x[n:]),
    Step("without_last_{n}", "drop the last {n} letters", "x[:-{n}]", lambda x, n: x[:-n]),
]
OF_LISTS = [
    Step("without_first_{n}", "drop the first {n} items", "x[{n}:]", lambda x, n: x[n:]),
    Step("first_{n}", "keep the first {n} items", "x[:{n}]", lambda x, n: x[:n]),
    Step("every_{n}", "keep one item in {n}, from the first on", "x[::{n}]", lambda x, n: x[::n]),
]
KINDS: dict[str, tuple[list[Step], list[Any]]] = {
    "number": (OF_NUMBERS, NUMBERS),
    "word": (OF_WORDS, WORDS),
    "list": (OF_LISTS, LISTS),
}
Problem = tuple[str, int, int, int, int]
"""kind, index and number of the first step, of the second"""


def rows(split: str, seed: int) -> list[dict[str, Any]]:
    """Training and test functions differ in an operation, in their order or in a number."""
    possible: list[Problem] = [
        (kind, first, n, second, m)
        for kind, (steps, _) in KINDS.items()
        for first in range(len(steps))
        for second in range(len(steps))
        if first != second
        for n in range(2, 6)
        for m in range(2, 6)
        if _told_apart(kind, first, n, second, m)
    ]
    chosen = drawn(of_split(possible, split, f"functions {seed}"), SIZES[split], f"functions {seed} {split}")
    return [_row(problem, f"{split}/{index}") for index, problem in enumerate(chosen)]


def _told_apart(kind: str, first: int, n: int, second: int, m: int) -> bool:
    """Whether the inputs show it if either number is one too large, and if a step is left out."""
    steps, inputs = KINDS[kind]
    one, two = steps[first], steps[second]
    right = [two.apply(one.apply(x, n), m) for x in inputs]
    wrong = [
        [two.apply(one.apply(x, n + 1), m) for x in inputs],
        [two.apply(one.apply(x, n), m + 1) for x in inputs],
        [one.apply(x, n) for x in inputs],
        [two.apply(x, m) for x in inputs],
    ]
    return right not in wrong


def _row(problem: Problem, number: str) -> dict[str, Any]:
    kind, first, n, second, m = problem
    steps, inputs = KINDS[kind]
    one, two = steps[first], steps[second]
    name = f"{one.name}_{two.name}".replace("{n}", "{}").format(n, m)
    described = f"Take a {kind}: {one.words.format(n=n)}, then {two.words.format(n=m)}."
    body = f"\n    x = {one.code.format(n=n)}\n    return {two.code.format(n=m)}\n"
    checks = [f"    assert candidate({x!r}) == {two.apply(one.apply(x, n), m)!r}" for x in inputs]
    return {
        "task_id": f"functions/{number}",
        "prompt": f'def {name}(x):\n    """{described}"""',
        "entry_point": name,
        "canonical_solution": body,
        "test": "\n".join(["def check(candidate):", *checks, ""]),
    }
