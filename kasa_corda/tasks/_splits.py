"""Splits that depend on the texts alone: the same on every machine, for every seed and in every order of files."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable

from .base import Example


def text_key(example: Example) -> str:
    """The text(s) without differences of case and white space: what makes two examples duplicates."""
    texts = (example.text, example.text_pair or "")
    return "\t".join(" ".join(text.casefold().split()) for text in texts)


def digest(purpose: str, key: str) -> int:
    """A number below 2**64 drawn from the text, independent for every purpose."""
    return int.from_bytes(hashlib.sha256(f"{purpose}\n{key}".encode()).digest()[:8], "big")


def carve(train: list[Example], at_most: int) -> tuple[list[Example], list[Example]]:
    """(rest of train, held-out part): min(at_most, a tenth of train) examples, duplicates kept on one side.

    Fewer are held out only where a group of duplicates would exceed that number.
    """
    groups: dict[str, list[int]] = defaultdict(list)
    for index, example in enumerate(train):
        groups[text_key(example)].append(index)
    wanted = min(at_most, len(train) // 10)
    chosen: set[int] = set()
    for key in sorted(groups, key=lambda key: digest("held out", key)):
        if len(chosen) == wanted:
            break
        if len(chosen) + len(groups[key]) <= wanted:
            chosen.update(groups[key])
    rest = [example for index, example in enumerate(train) if index not in chosen]
    return rest, [train[index] for index in sorted(chosen)]


def draw(train: list[Example], count: int | None) -> list[Example]:
    """A fixed draw of ``count`` examples in their old order; a smaller draw is part of a larger one."""
    if count is None or count >= len(train):
        return train
    order = sorted(range(len(train)), key=lambda index: (digest("draw", text_key(train[index])), index))
    return [train[index] for index in sorted(order[:count])]


def without_duplicates(examples: list[Example]) -> list[Example]:
    """The first example of every text."""
    first: dict[str, Example] = {}
    for example in examples:
        first.setdefault(text_key(example), example)
    return list(first.values())


def overlap(train: Iterable[Example], other: Iterable[Example]) -> int:
    """How many examples of ``other`` have a text that also stands in ``train``."""
    known = {text_key(example) for example in train}
    return sum(text_key(example) in known for example in other)


def fingerprint(splits: dict[str, list[Example]]) -> str:
    """First 16 hex digits of the sha256 over names, ids, texts, labels and targets of all splits."""
    state = hashlib.sha256()
    for name, examples in splits.items():
        for e in examples:
            target = [] if e.target is None else [e.target]
            state.update(json.dumps([name, e.id, e.text, e.text_pair, e.label, *target]).encode())
    return state.hexdigest()[:16]
