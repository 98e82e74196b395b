"""What a judge's reply says. Ratings are written [[7]], choices [[A]], [[B]] or [[C]] for a tie."""

from __future__ import annotations

import re

TAIL = 20_000
"""characters at the end of a reply that are searched"""
LOWEST, HIGHEST = 1.0, 10.0
NUMBER = r"(\d{1,2}(?:\.\d{1,3})?)(?:\s{0,3}/\s{0,3}10)?"
RATING = re.compile(rf"\[\[\s{{0,3}}{NUMBER}\s{{0,3}}\]\]", re.ASCII)
CHOICE = re.compile(r"\[\[\s{0,3}(A|B|C|tie)\s{0,3}\]\]", re.IGNORECASE)
LOOSE_RATING = re.compile(rf"\[\s{{0,3}}{NUMBER}\s{{0,3}}\]", re.ASCII)
LOOSE_CHOICE = re.compile(r"\[\s{0,3}(A|B|C|tie)\s{0,3}\]", re.IGNORECASE)


def rating(reply: str) -> float | None:
    """The rating, 1 to 10: the last in double brackets, else the last in single ones; None if there is none.

    The last counts because a judge may quote brackets out of the answer before it decides.
    """
    found = _last(reply, RATING, LOOSE_RATING)
    value = None if found is None else float(found)
    return value if value is not None and LOWEST <= value <= HIGHEST else None


def choice(reply: str) -> str | None:
    """'A', 'B' or 'tie', read like ``rating``; None if the reply does not decide."""
    found = _last(reply, CHOICE, LOOSE_CHOICE)
    return None if found is None else {"A": "A", "B": "B"}.get(found.upper(), "tie")


def settled(first: str | None, swapped: str | None) -> float | None:
    """One comparison from both orders, seen from the model: 1 won, 0 lost, 0.5 a tie; None if a verdict is missing.

    ``first`` was given with the model's answer as A, ``swapped`` with it as B. Only a preference that holds in both
    orders counts; a judge that contradicts itself calls a tie.
    """
    if first is None or swapped is None:
        return None
    return {("A", "B"): 1.0, ("B", "A"): 0.0}.get((first, swapped), 0.5)


def _last(reply: str, *patterns: re.Pattern[str]) -> str | None:
    for pattern in patterns:
        if found := pattern.findall(reply[-TAIL:]):
            return str(found[-1])
    return None
