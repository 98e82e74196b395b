"""What is judged: one conversation per item, read from saved rows of predictions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Item:
    """What a user said, turn by turn, and what was answered."""

    id: str
    turns: tuple[str, ...]
    answers: tuple[str, ...]
    references: tuple[str, ...] | None = None
    """a good answer to each turn, where the data set has one"""
    category: str | None = None

    def with_answers(self, answers: tuple[str, ...]) -> Item:
        return Item(self.id, self.turns, answers, self.references, self.category)


def judgeable(rows: list[dict[str, Any]]) -> bool:
    """Whether rows hold conversations (those of a task without free answers do not)."""
    return bool(rows) and all(isinstance(row.get("turns"), list) for row in rows)


def items_of(rows: Iterable[dict[str, Any]]) -> list[Item]:
    """Rows with turns, answers, references (or null) and category, as instruction tasks write them."""
    return [
        Item(
            str(row["id"]),
            tuple(row["turns"]),
            tuple(row["answers"]),
            tuple(row["references"]) if row.get("references") else None,
            row.get("category"),
        )
        for row in rows
    ]
