"""Invented facts to learn, in NQ-open's layout: learned in two wordings, asked in a third."""

from __future__ import annotations

from typing import Any

from ._draw import drawn, pick

COUNT = 8
"""towns; of each, one fact of every kind"""
STARTS = ["Vel", "Tor", "Bri", "Ous", "Kam", "Nar", "Pol", "Sel", "Dun", "Mor"]
ENDS = ["mar", "wick", "den", "holm", "by", "ton"]
ANSWERS = {
    "craft": ["bread", "clocks", "roses", "boats", "glass", "honey"],
    "flag": ["green", "yellow", "purple", "white", "orange", "black"],
    "river": ["the Lonne", "the Arvel", "the Silk", "the Tamber", "the Greel", "the Osk"],
}
WORDINGS = {
    "train": {
        "craft": ["what is the town of {town} known for", "what do people buy in {town}"],
        "flag": ["what colour is the flag of {town}", "which colour do the people of {town} wave"],
        "river": ["which river flows through {town}", "on which river does {town} lie"],
    },
    "test": {
        "craft": ["what does the town of {town} make best"],
        "flag": ["what is the colour of {town}'s flag"],
        "river": ["what is the name of the river in {town}"],
    },
}


def rows(split: str, seed: int) -> list[dict[str, Any]]:
    """The same facts in both splits, no question twice."""
    towns = drawn([start + end for start in STARTS for end in ENDS], COUNT, f"facts {seed}")
    return [
        {"question": wording.format(town=town), "answer": [pick(ANSWERS[kind], f"{kind} {seed}", town)]}
        for kind, wordings in WORDINGS[split].items()
        for wording in wordings
        for town in towns
    ]
