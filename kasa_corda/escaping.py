"""Text that came from anywhere (data, models, other people's runs, errors), harmless where it is shown.

HTML is escaped by the page templates, LaTeX by ``report.render.latex_escape``.
"""

from __future__ import annotations

import re
from typing import Any

_UNPRINTED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""control characters but tab and line end, which move a terminal's cursor, and those that turn the reading direction"""
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
r"""what makes a spreadsheet compute a cell that begins with it"""


def printable(text: str) -> str:
    r"""Text for a terminal or a log: control characters as ``\u001b``, which is also what JSON calls them."""
    return _UNPRINTED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def one_line(text: str) -> str:
    """Without control characters and line ends."""
    return re.sub(r"\s+", " ", _UNPRINTED.sub(" ", text)).strip()


def markdown_text(text: str) -> str:
    """For a line or a table cell of Markdown: no cell, link, emphasis or tag of its own."""
    text = one_line(text).replace("\\", "\\\\")
    for character in "|*`":
        text = text.replace(character, f"\\{character}")
    return re.sub(r"<(?=[A-Za-z/!?])", "&lt;", text.replace("](", "]\\(").replace("]:", "]\\:"))


def fenced(text: str, language: str = "") -> str:
    """A Markdown block of code whose fence is longer than any in the text."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def csv_cell(value: Any) -> Any:
    """A cell that no spreadsheet takes for a formula; what is no text stays as it is."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value
