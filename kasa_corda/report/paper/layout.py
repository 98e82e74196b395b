"""What a report is made of, before it is HTML, Markdown, CSV or LaTeX: chapters of tables, figures and sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

NOTHING = "-"
SIGNS = {
    "reproduced": "✓",
    "direction": "↗",
    "not_reproduced": "✗",
    "undecidable": "?",
    "missing": "○",
    "inside": "=",
    "outside": "≠",
    "error": "✗",
    "warning": "!",
}
"""state -> the sign that says it without colour"""


@dataclass(frozen=True)
class Cell:
    """One table cell. ``value`` is what it sorts by, in full precision."""

    text: str
    value: float | None = None
    state: str = ""
    """one of SIGNS: coloured, and marked by its sign"""
    note: str = ""
    """how it came about: a footnote"""
    runs: tuple[str, ...] = ()
    """ids of the runs that ``value`` is the mean of"""
    path: str = ""
    """where result.json of these runs has what was averaged"""
    times: float = 1
    """``value`` is ``times`` that mean"""
    hint: str = ""
    """shown on hover; nothing that isn't in ``text`` or ``note`` too"""
    link: str = ""
    """id of a place in the page"""
    heading: bool = False
    """whether it names its row"""

    @property
    def sign(self) -> str:
        return SIGNS.get(self.state, "")


@dataclass(frozen=True)
class Column:
    """``group``: a heading over several neighbouring columns."""

    name: str
    group: str = ""


@dataclass
class Grid:
    """A table. ``key`` names it in the page and in LaTeX."""

    key: str
    title: str
    columns: list[Column]
    rows: list[list[Cell]]
    caption: str = ""
    left_out: str = ""
    """what of the data isn't shown, and where it is"""

    @property
    def numeric(self) -> list[bool]:
        """Columns of numbers: those in which any cell has a value."""
        return [any(row[i].value is not None for row in self.rows) for i in range(len(self.columns))]

    @property
    def groups(self) -> list[tuple[str, int]]:
        """(heading, how many columns it spans), in order; empty if no column has one."""
        spans: list[tuple[str, int]] = []
        for column in self.columns:
            if spans and column.group and spans[-1][0] == column.group:
                spans[-1] = (column.group, spans[-1][1] + 1)
            else:
                spans.append((column.group, 1))
        return spans if any(name for name, _ in spans) else []

    @property
    def notes(self) -> list[str]:
        """Footnotes in order; equal ones share a number."""
        return list(dict.fromkeys(cell.note for row in self.rows for cell in row if cell.note))

    def number(self, cell: Cell) -> int:
        """Of its footnote, from 1."""
        return self._numbers[cell.note]

    @property
    def _numbers(self) -> dict[str, int]:
        if not hasattr(self, "_cached"):
            self._cached = {note: number for number, note in enumerate(self.notes, 1)}
        return self._cached


@dataclass(frozen=True)
class Drawing:
    """A figure as bare SVG markup; ``described`` says in words what it shows."""

    title: str
    svg: str
    described: str = ""


@dataclass(frozen=True)
class Fold:
    """A heading that opens: sentences and tables that few readers need."""

    key: str
    title: str
    blocks: tuple[Block, ...]
    state: str = ""

    @property
    def sign(self) -> str:
        return SIGNS.get(self.state, "")


@dataclass(frozen=True)
class Sentence:
    text: str
    soft: bool = False


@dataclass(frozen=True)
class Bullets:
    items: tuple[str, ...]


@dataclass(frozen=True)
class Code:
    """Commands, to be copied."""

    text: str


@dataclass(frozen=True)
class Tiles:
    """Counts in large type: (number, what is counted, state)."""

    items: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True)
class Heading:
    key: str
    text: str


Block = Sentence | Bullets | Code | Tiles | Heading | Grid | Drawing | Fold


@dataclass
class Chapter:
    key: str
    title: str
    blocks: list[Block] = field(default_factory=list)

    def say(self, text: str, soft: bool = False) -> None:
        self.blocks.append(Sentence(text, soft))

    def grids(self) -> list[Grid]:
        """Every table, those in folds too."""
        return list(_grids(self.blocks))


def _grids(blocks: Sequence[Block]) -> list[Grid]:
    found: list[Grid] = []
    for block in blocks:
        if isinstance(block, Grid):
            found.append(block)
        elif isinstance(block, Fold):
            found += _grids(block.blocks)
    return found


def columns(*names: str) -> list[Column]:
    return [Column(name) for name in names]


def text(value: object) -> Cell:
    return Cell(NOTHING if value in (None, "") else str(value))


def number(value: float | None, shown: str) -> Cell:
    """A number as it is shown, sorted by its value."""
    return Cell(NOTHING) if value is None else Cell(shown, value)
