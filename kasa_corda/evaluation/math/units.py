"""Words around a number: units, and phrases such as 'about'."""

from __future__ import annotations

import re

_SPELLINGS = {
    "mm": "millimeter millimetre",
    "cm": "centimeter centimetre",
    "m": "meter metre",
    "km": "kilometer kilometre",
    "in": "inch inche",
    "ft": "foot feet",
    "yd": "yard",
    "mi": "mile",
    "mg": "milligram",
    "g": "gram gm",
    "kg": "kilogram",
    "oz": "ounce",
    "lb": "pound",
    "ml": "milliliter millilitre",
    "l": "liter litre",
    "gal": "gallon",
    "s": "second sec",
    "min": "minute",
    "h": "hour hr",
    "day": "",
    "week": "",
    "month": "",
    "year": "",
    "mph": "miles per hour",
    "cent": "",
    "dollar": "usd",
    "deg": "degree",
    "rad": "radian",
    "percent": "",
}
KNOWN = {spelling: unit for unit, others in _SPELLINGS.items() for spelling in (unit, *others.split())}
SQUARED, CUBED = re.compile(r"\b(?:square|sq)\b\.?\s*"), re.compile(r"\b(?:cubic|cu)\b\.?\s*")
TRAILING = re.compile(
    r"(?P<number>.*(?:[\d)}\]|!%]|\\pi))(?P<space>\s*)"
    r"(?P<unit>(?:/\s*)?[a-zA-Z][a-zA-Z.'/ -]*)(?P<power>\s*\^\s*\{?\s*[23]\s*\}?)?"
)
LEADING = re.compile(
    r"(?:(?:is|are|about|approximately|roughly|around|exactly|precisely|equal to|equals|simply|just|only|therefore|"
    r"thus|then|that|given by|a total of|the|number|value|≈)(?![a-zA-Z])[\s:,]*)+",
    re.IGNORECASE,
)
_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
NAMES = {name: number for number, name in enumerate(_NAMES)}


def without_unit(text: str) -> tuple[str, str] | None:
    """(expression, unit) of '5 cm^2' or '18 ways'; None if no word follows a number.

    '3x', '3 x' and '3ab' have no unit; one or two letters are one only if they are a known abbreviation.
    """
    found = TRAILING.fullmatch(text)
    if found is None:
        return None
    unit = found["unit"].strip()
    first = re.split(r"[^a-zA-Z]", unit.lstrip("/ "))[0]
    known = first.lower() in KNOWN and (len(first) > 1 or bool(found["space"]))
    if not known and len(first) < 3 and not unit.startswith("/"):
        return None
    return found["number"], _canonical(unit, (found["power"] or "").strip(" ^{}"))


def _canonical(unit: str, power: str) -> str:
    """'square inches' -> 'in^2'; empty for words that are no unit of measurement ('ways', 'apples')."""
    text = unit.lower().strip(" .")
    power = "2" if SQUARED.search(text) else "3" if CUBED.search(text) else power
    text = CUBED.sub("", SQUARED.sub("", text))
    name = KNOWN.get(text) or KNOWN.get(text.removesuffix("s"), "")
    return f"{name}^{power}" if name and power else name
