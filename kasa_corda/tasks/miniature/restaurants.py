"""Restaurant descriptions from slots, in E2E's layout: a meaning representation and a text, several texts for each."""

from __future__ import annotations

from itertools import product
from typing import Any

from ._draw import drawn, of_split

MEANINGS = {"train": 200, "test": 40}
PLACES = ["Blue Owl", "Old Mill", "Red Fox", "Tall Pine", "Salt House", "Green Door", "Iron Pot", "Moon Bay"]
KINDS = ["pub", "restaurant", "coffee shop"]
FOODS = ["Thai", "Greek", "Indian", "Italian", "Polish", "Turkish"]
PRICES = ["cheap", "moderate", "high"]
AREAS = ["harbour", "old town", "riverside", "market square"]
COSTS = {"cheap": "It is cheap.", "moderate": "Prices are moderate.", "high": "Prices are high."}


def rows(split: str, seed: int) -> list[dict[str, Any]]:
    """Training and test meanings differ; every meaning has one training text and two test references."""
    possible = list(product(PLACES, KINDS, FOODS, PRICES, AREAS))
    chosen = drawn(of_split(possible, split, f"restaurants {seed}"), MEANINGS[split], f"restaurants {seed} {split}")
    texts = [(_meaning(*slots), text) for slots in chosen for text in _texts(*slots)[: 1 if split == "train" else 2]]
    return [{"mr": meaning, "ref": text} for meaning, text in texts]


def _meaning(name: str, kind: str, food: str, price: str, area: str) -> str:
    return f"name[{name}], eatType[{kind}], food[{food}], priceRange[{price}], area[{area}]"


def _texts(name: str, kind: str, food: str, price: str, area: str) -> list[str]:
    return [
        f"{name} is a {kind} in the {area} area with {food} food. {COSTS[price]}",
        f"In the {area} area, the {kind} {name} offers {food} food. {COSTS[price]}",
    ]
