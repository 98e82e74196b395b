"""Facts to keep, in NQ-open's layout: common knowledge that a pretrained model mostly has, to see what is forgotten."""

from __future__ import annotations

from typing import Any

CAPITALS = {
    "France": "Paris", "Italy": "Rome", "Spain": "Madrid", "Germany": "Berlin", "Japan": "Tokyo", "China": "Beijing",
    "Russia": "Moscow", "Egypt": "Cairo", "Greece": "Athens", "Portugal": "Lisbon", "Austria": "Vienna",
    "Ireland": "Dublin", "Cuba": "Havana", "Peru": "Lima", "Norway": "Oslo", "Sweden": "Stockholm",
}  # fmt: skip
OPPOSITES = {
    "hot": "cold", "big": "small", "up": "down", "day": "night", "open": "closed", "happy": "sad", "fast": "slow",
    "left": "right",
}  # fmt: skip
OTHERS = {
    "The number of days in a week is": ["seven", "7"],
    "The number of months in a year is": ["twelve", "12"],
    "We live on planet": ["Earth"],
    "Frozen water is called": ["ice"],
    "The animal that says meow is the": ["cat"],
    "The food that bees make is": ["honey"],
    "The first month of the year is": ["January"],
    "The largest ocean on Earth is the": ["Pacific Ocean", "Pacific"],
}


def rows(split: str, seed: int) -> list[dict[str, Any]]:
    """Beginnings of sentences, all in the test set; training has none (the seed changes nothing)."""
    asked = {f"The capital of {country} is": [city] for country, city in CAPITALS.items()}
    asked |= {f"The opposite of {word} is": [other] for word, other in OPPOSITES.items()}
    return [{"question": q, "answer": a} for q, a in {**asked, **OTHERS}.items()] if split == "test" else []
