"""What an answer can be: a value, a group of answers, a relation, a number in a base, or words."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeAlias

from .arithmetic import Number, Unreadable
from .expressions import values
from .notation import BROKEN_ROW, ROW, enclosed, split
from .units import LEADING, NAMES, without_unit

COMMA = re.compile(r"(?<![\d,.])(\d{1,3}(?:,\d{3})+)(?![\d,]*\d)", re.A)
AND = re.compile(r"\s*,?\s*(?<![a-zA-Z\\])(?:and|or)(?![a-zA-Z])\s*")
MATRIX = re.compile(r"\\begin\s*\{([a-z]*matrix|array)\}(?:\{[clr|]*\})?(.*)\\end\s*\{\1\}", re.DOTALL)
BASED = re.compile(r"(?:\\text)?([-+]?[\dA-F]+(?:\.[\dA-F]+)?)\s*(?:_\s*\{?\s*|\(?base\s+)(\d+)\s*[})]?", re.A)
LETTERS = re.compile(r"(?<![\\a-zA-Z])(?!(?:sqrt|pi|sinh?|cosh?|tanh?|log|ln|exp)(?![a-zA-Z]))[a-zA-Z]{3,}")
UNION = "\N{UNION}"
OPERATORS = "=≈∈<>≤≥≠"
EQUALITIES = set("=≈∈")
SEPARATING = re.compile(r"[\s()\[\]{}⟦⟧,;\"']|\.(?!\d)")
NAME = re.compile(r"[a-zA-Z](?:_\{?\w+\}?)?'?|\\[a-zA-Z]+|[a-zA-Z]+'?\([a-zA-Z, ]*\)|[a-zA-Z ]{3,}", re.A)
PARTS = 60
"""longest list or chain of relations that is read"""
FLIPPED = str.maketrans("<>≤≥", "><≥≤")


@dataclass(frozen=True)
class Scalar:
    """An expression: its value, or its values at three points if it has letters."""

    values: tuple[Number, ...]
    unit: str = ""
    """a unit of measurement, if one is given"""
    percent: bool = False


@dataclass(frozen=True)
class Group:
    """Answers together. ``kind`` is 'list' (no order), 'matrix', 'row', or the two brackets of a tuple or interval."""

    kind: str
    items: tuple[Form, ...]


@dataclass(frozen=True)
class Relation:
    """sides[0] operators[0] sides[1] ..."""

    operators: str
    sides: tuple[Form, ...]
    names: tuple[str, ...]
    """per side: its text if that only names something (x, f(x), Area), else empty"""


@dataclass(frozen=True)
class Based:
    digits: str
    base: int


@dataclass(frozen=True)
class Words:
    text: str
    """lower case, without brackets, spaces and full stops"""


Form: TypeAlias = Scalar | Group | Relation | Based | Words


def readings(text: str) -> list[Form]:
    """The forms of a ``cleaned`` text: two if 1,234 can be one number or two."""
    joined = COMMA.sub(lambda found: found[0].replace(",", ""), text)
    return [_read(AND.sub(", ", one).strip(" ,;"), 0) for one in dict.fromkeys((joined, text))]


def _read(text: str, depth: int) -> Form:
    matrix = MATRIX.fullmatch(text)
    if matrix:
        return _matrix(matrix[1], matrix[2], depth)
    if depth < 10:
        for separators in (",;", UNION):
            parts = [part for part in split(text, separators) if part]
            if 1 < len(parts) <= PARTS:
                return Group("list", tuple(_read(part, depth + 1) for part in parts))
        sides = split(text, OPERATORS)
        if 1 < len(sides) <= PARTS:
            return _relation(text, sides, depth)
        if enclosed(text):
            return _enclosed(text, depth)
        if text.count("±") == 1:
            return Group("list", tuple(_read(text.replace("±", sign), depth + 1) for sign in "+-"))
    based = BASED.fullmatch(text)
    return Based(based[1], int(based[2][:3])) if based else scalar(text)


def _matrix(kind: str, body: str, depth: int) -> Form:
    rows = [row for row in BROKEN_ROW.sub(ROW, body).split(ROW) if row.strip()]
    cells = [Group("row", tuple(_read(cell.strip(), depth + 1) for cell in row.split("&"))) for row in rows]
    return Group("determinant" if kind == "vmatrix" else "matrix", tuple(cells))


def _relation(text: str, sides: list[str], depth: int) -> Form:
    operators, position = "", 0
    for side in sides[:-1]:
        position = text.index(side, position) + len(side)
        operators += text[position:].lstrip()[0]
    names = tuple(side if NAME.fullmatch(side) else "" for side in sides)
    return Relation(operators, tuple(_read(side, depth + 1) for side in sides), names)


def _enclosed(text: str, depth: int) -> Form:
    kind, inner = text[0] + text[-1], text[1:-1].strip()
    parts = split(inner, ",;")
    if kind == "⟦⟧" or (kind == "{}" and len(parts) > 1):
        return Group("list", tuple(_read(part, depth + 1) for part in parts if part))
    if len(parts) > 1:
        return Group("()" if kind == "⟨⟩" else kind, tuple(_read(part, depth + 1) for part in parts))
    return _read(inner, depth + 1)


def scalar(text: str) -> Scalar | Words:
    """A value with its unit, else words."""
    text = text.strip()
    percent = text.endswith("%")
    bare = text.rstrip("% ")
    found = _scalar(bare, percent) or _scalar(LEADING.sub("", bare, count=1), percent)
    return found or Words(SEPARATING.sub("", text).lower())


def _scalar(text: str, percent: bool) -> Scalar | None:
    if text.lower() in NAMES:
        return Scalar(values(str(NAMES[text.lower()])))
    parts = without_unit(text)
    if parts:
        text, unit = parts[0].rstrip("% "), parts[1]
        percent = percent or unit == "percent" or parts[0].endswith("%")
    else:
        unit = ""
    if LETTERS.search(text):
        return None
    try:
        return Scalar(values(text), "" if unit == "percent" else unit, percent)
    except Unreadable:
        return None
