"""How long the examples of a task are in tokens, and how many there are: what a plan must know before data is read."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

TABLE = Path(__file__).with_name("lengths.csv")
UNKNOWN_SHARE = 0.4
"""mean length of a task that the table lacks, as a share of its max_length"""


@dataclass(frozen=True)
class Lengths:
    """Tokens of a task's examples. ``source`` says whether they were measured or assumed."""

    mean: float
    std: float
    longest: float
    """of all examples"""
    prompt: float
    answer: float
    megabytes: float
    """of its files on the hub, about"""
    train: int
    test: int
    source: str

    def longest_of(self, count: int, max_length: int) -> float:
        """Expected length of the longest of ``count`` examples (Gaussian tail), cut at max_length."""
        return min(max_length, self.longest, self.mean + self.std * math.sqrt(2 * math.log(max(count, 1))))

    def padded(self, batch: int, max_length: int, *, grouped: bool) -> float:
        """Tokens per example of a batch that is padded to its longest one; grouped batches hold similar lengths."""
        longest = self.longest_of(batch, max_length)
        return min(max_length, self.mean) + 0.1 * (longest - min(max_length, self.mean)) if grouped else longest


@cache
def table() -> dict[str, Lengths]:
    """Task name -> its lengths."""
    with TABLE.open(encoding="utf-8", newline="") as file:
        return {row["task"]: _read(row) for row in csv.DictReader(file)}


def _read(row: dict[str, str]) -> Lengths:
    mean = float(row["mean"])
    return Lengths(
        mean,
        float(row["std"]),
        float(row["longest"]),
        float(row["prompt"] or mean),
        float(row["answer"] or 0),
        float(row["megabytes"]),
        int(row["train"]),
        int(row["test"]),
        row["source"],
    )


def lengths_of(name: str, settings: dict[str, Any]) -> Lengths:
    """Of one task (its config as a dict), from the table or guessed from max_length."""
    if name in table():
        return table()[name]
    mean = UNKNOWN_SHARE * (settings.get("max_length") or 128)
    answer = 0.5 * (settings.get("max_new_tokens") or 0)
    sizes = dict(settings.get("sizes") or {})
    train = sizes.pop("train", 0)
    return Lengths(
        mean, mean / 2, 4 * mean, max(mean - answer, 1), answer, 1, train or 1000, sum(sizes.values()) or 500, "guessed"
    )
