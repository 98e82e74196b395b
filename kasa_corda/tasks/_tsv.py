"""Tab-separated files as published: UTF-8, one row per line, no quoting. Anything else is one clear sentence."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..errors import DataError

BROKEN_SHARE = 0.01
"""a lenient file may have at most this share of broken rows"""


@dataclass(frozen=True)
class Table:
    """Rows with their line numbers (from 1); ``skipped`` counts rows left out for a wrong number of columns."""

    path: Path
    columns: list[str]
    rows: list[tuple[int, list[str]]]
    skipped: int

    def position(self, name: str) -> int:
        """Index of a column; DataError if the file lacks it."""
        if name not in self.columns:
            raise DataError(f"{self.path}, line 1: column {name!r} is missing; found {', '.join(self.columns)}")
        return self.columns.index(name)


def read_tsv(path: Path, header: list[str] | None = None, *, lenient: bool = False) -> Table:
    """Read a file whose first line is the header, or, with ``header``, one that has none.

    Quotes are text (csv.QUOTE_NONE) and only line feeds end a row. ``lenient`` skips and counts rows
    with a wrong number of columns, which some official files have.
    """
    lines = _lines(path)
    first = 1 if header else 2
    columns = header or [name.strip() for name in lines[0].split("\t")]
    rows: list[tuple[int, list[str]]] = []
    skipped = 0
    for number, line in enumerate(lines[first - 1 :], first):
        fields = line.split("\t")
        if len(fields) == len(columns):
            rows.append((number, fields))
        elif lenient:
            skipped += 1
        else:
            expected = f"expected {len(columns)}: {', '.join(columns)}"
            raise DataError(f"{path}, line {number}: {_count(line, fields)}, {expected[:300]}")
    if not rows:
        raise DataError(f"{path} has no rows with the columns {', '.join(columns)[:300]}")
    if skipped > max(1, BROKEN_SHARE * len(lines)):
        raise DataError(f"{path}: {skipped} of {len(lines)} lines do not have the columns {', '.join(columns)}")
    return Table(path, columns, rows, skipped)


def _count(line: str, fields: list[str]) -> str:
    return f"{len(fields)} column{'s' if len(fields) > 1 else ''}" if line else "an empty line"


def _lines(path: Path) -> list[str]:
    """All lines without their ends; trailing empty lines are dropped."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror or error}") from None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}, line {line}: byte 0x{content[error.start]:02x} is not UTF-8; convert the file to UTF-8"
        ) from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise DataError(f"{path}, line {line}: a NUL character; the file is not UTF-8 text")
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    while lines and not lines[-1].strip():
        lines.pop()
    if not lines:
        raise DataError(f"{path} is empty")
    return lines
