"""Chapters as one self-contained page: no network, light and dark, for a phone and for print, whole without scripts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from .layout import SIGNS, Block, Cell, Chapter, Drawing, Grid

if TYPE_CHECKING:
    from markupsafe import Markup

LONG = 42
"""characters from which a cell may break"""
BROAD = 16
"""the same of a column of numbers, such as a difference with its interval"""
PINNED = 40
"""the first column stays in sight while a table scrolls, if its texts are no longer than this"""


@dataclass
class Run:
    """Neighbouring blocks: figures, which stand side by side, or others."""

    drawings: bool
    blocks: list[Block] = field(default_factory=list)


def page(chapters: Sequence[Chapter], title: str, subtitle: str) -> str:
    """The whole page. Everything that comes from a run or a file of numbers is escaped by the template."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    here = Path(__file__).parent
    environment = Environment(
        loader=FileSystemLoader(here), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals.update(
        runs_of=runs_of, kind_of=lambda block: type(block).__name__, classes=classes, pinned=pinned, signs=SIGNS
    )
    return environment.get_template("page.html").render(
        title=title,
        subtitle=subtitle,
        chapters=chapters,
        style=(here / "page.css").read_text(encoding="utf-8"),
        script=(here / "page.js").read_text(encoding="utf-8"),
    )


def runs_of(blocks: Sequence[Block]) -> list[Run]:
    return [Run(drawn, list(found)) for drawn, found in groupby(blocks, lambda block: isinstance(block, Drawing))]


def classes(cell: Cell, numeric: bool) -> Markup:
    """The class attribute of a cell, or nothing."""
    from markupsafe import Markup

    names = ["number"] if numeric else []
    if numeric and len(cell.text) > BROAD:
        names.append("broad")
    if not numeric and len(cell.text) > LONG:
        names.append("long")
    if cell.state:
        names.append(f"s-{cell.state}")
    return Markup(' class="{}"').format(" ".join(names)) if names else Markup("")


def pinned(grid: Grid) -> bool:
    return bool(grid.rows) and len(grid.columns) > 3 and all(len(row[0].text) <= PINNED for row in grid.rows)
