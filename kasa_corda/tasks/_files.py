"""Rows of one data file: JSON lines, a JSON list or comma-separated values. What is wrong is told with file and line.

UTF-8 with or without a byte order mark; lines may end in CR LF.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import DataError

LONGEST = 1_000_000
"""characters of one text; more is a file without line ends, or with an open quote"""
MOST_UNPACKED = 2**31
"""bytes of an unpacked .gz file; the largest data set of the papers has a tenth of it"""
IDS = ("task_id", "id")
"""columns in which no value may stand twice in a file"""
GZIP = b"\x1f\x8b"


def brief(value: Any) -> str:
    """A value in an error message: at most 40 characters of it."""
    text = repr(value) if not isinstance(value, str) or len(value) <= 40 else repr(value[:40] + "...")
    return text if len(text) <= 60 else text[:60] + "..."


@dataclass(frozen=True)
class Row:
    """One row as published; ``where`` says file and line, or hub split and row."""

    values: dict[str, Any]
    where: str

    def text(self, column: str) -> str:
        """A column that must hold a text that is not empty."""
        value = self._value(column)
        if not isinstance(value, str) or not value.strip():
            raise DataError(f"{self.where}, {column!r}: {brief(value)} is not a text, or an empty one")
        self._bounded(column, value)
        return value

    def texts(self, column: str) -> list[str]:
        """A column that must hold at least one text."""
        value = self._value(column)
        if not isinstance(value, list) or not value:
            raise DataError(f"{self.where}, {column!r}: {brief(value)} is not a list of texts")
        for one in value:
            if not isinstance(one, str) or not one.strip():
                raise DataError(f"{self.where}, {column!r}: {brief(one)} in the list is not a text, or an empty one")
            self._bounded(column, one)
        return value

    def _value(self, column: str) -> Any:
        if column not in self.values:
            found = ", ".join(map(str, self.values))
            raise DataError(f"{self.where}: {column!r} is missing; found {found[:200] or 'nothing'}")
        return self.values[column]

    def _bounded(self, column: str, text: str) -> None:
        if len(text) > LONGEST:
            raise DataError(
                f"{self.where}, {column!r}: a text of {len(text):,} characters, above the {LONGEST:,} allowed;"
                f" it begins {brief(text)}"
            )


def read_file(path: Path) -> list[Row]:
    """The rows of one file, read as its suffix says (.csv, .json, else JSON lines; also .gz); none is a DataError."""
    text = file_text(path)
    suffix = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    reader = {".csv": _csv, ".json": _json}.get(suffix, _json_lines)
    rows = list(reader(text, path))
    if not rows:
        raise DataError(f"{path} has no rows")
    _no_id_twice(rows)
    return rows


def file_text(path: Path) -> str:
    """The text of a file, unpacked if its name ends in .gz; DataError if it is not UTF-8 text, or empty."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror or error}") from None
    if path.suffix == ".gz":
        try:
            data = _unpacked(data, path)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"{path} can't be unpacked: {error}; is the download complete?") from None
    elif data.startswith(GZIP):
        raise DataError(f"{path} is compressed; name it {path.name}.gz")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        wrong = f"byte 0x{data[error.start]:02x} is not UTF-8"
        raise DataError(f"{path}, line {line}: {wrong}; convert the file to UTF-8") from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise DataError(f"{path}, line {line}: a NUL character; the file is not UTF-8 text")
    if not text.strip():
        raise DataError(f"{path} is empty and has no rows")
    return text


def _unpacked(data: bytes, path: Path) -> bytes:
    parts, left = [], MOST_UNPACKED
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as unpacking:
        while part := unpacking.read(1 << 20):
            left -= len(part)
            if left < 0:
                raise DataError(f"{path} unpacks to more than {MOST_UNPACKED / 1e9:.1f} GB; it is not read")
            parts.append(part)
    return b"".join(parts)


def _csv(text: str, path: Path) -> Iterator[Row]:
    """Comma-separated with a header line; quoted fields may hold line breaks."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    columns: list[str] | None = None
    began = 1
    try:
        for fields in reader:
            where, began = f"{path}, line {began}", reader.line_num + 1
            if not fields:
                continue
            if columns is None:
                columns = [name.strip() for name in fields]
                _columns(columns, where)
                continue
            if len(fields) != len(columns):
                raise DataError(f"{where}: {len(fields)} columns, not {len(columns)} as in the header")
            yield Row(dict(zip(columns, fields, strict=True)), where)
    except csv.Error as error:
        reason = "a quote is not closed" if "end of data" in str(error) else f"not comma-separated values ({error})"
        raise DataError(f"{path}, line {began}: {reason}") from None


def _columns(names: list[str], where: str) -> None:
    for index, name in enumerate(names):
        if not name:
            raise DataError(f"{where}: column {index + 1} of the header has no name")
        if name in names[:index]:
            raise DataError(f"{where}: the header names {name!r} twice")


def _json(text: str, path: Path) -> Iterator[Row]:
    """One list of objects."""
    start = _after_space(text, 0)
    if text[start] != "[":
        hint = "; a file with one object per line must be named .jsonl" if text[start] == "{" else ""
        raise DataError(f"{path}, line {text.count(chr(10), 0, start) + 1}: not a list of objects{hint}")
    line, counted, at = 1, 0, _after_space(text, start + 1)
    while text[at : at + 1] != "]":
        line, counted = line + text.count("\n", counted, at), at
        where = f"{path}, line {line}"
        values, at = _object(text, at, where)
        yield Row(values, where)
        at = _after_space(text, at)
        if text[at : at + 1] not in (",", "]"):
            found = brief(text[at : at + 20]) if at < len(text) else "the end of the file"
            line += text.count("\n", counted, at)
            raise DataError(f"{path}, line {line}: not JSON (expected ',' or ']', found {found})")
        if text[at] == ",":
            at = _after_space(text, at + 1)
            if text[at : at + 1] == "]":
                line += text.count("\n", counted, at)
                raise DataError(f"{path}, line {line}: not JSON (a comma in front of ']')")
    rest = _after_space(text, at + 1)
    if rest < len(text):
        line += text.count("\n", counted, rest)
        raise DataError(f"{path}, line {line}: not JSON ({brief(text[rest : rest + 20])} behind the list)")


def _json_lines(text: str, path: Path) -> Iterator[Row]:
    """One JSON object per line; empty lines are left out."""
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        values, end = _object(line, _after_space(line, 0), where)
        if line[end:].strip():
            raise DataError(f"{where}: not JSON ({brief(line[end:].strip())} behind the object)")
        yield Row(values, where)


def _object(text: str, at: int, where: str) -> tuple[dict[str, Any], int]:
    """The JSON object that begins at ``at``, and the place behind it."""
    try:
        values, end = DECODER.raw_decode(text, at)
    except json.JSONDecodeError as error:
        further = text.count("\n", at, error.pos)
        deeper = f", {further} lines on" if further else f", column {error.pos - text.rfind(chr(10), 0, error.pos)}"
        raise DataError(f"{where}: not JSON ({error.msg}{deeper})") from None
    except (ValueError, RecursionError) as error:  # a name twice, a number of thousands of digits; nested too deeply
        raise DataError(f"{where}: not JSON ({str(error)[:100]})") from None
    if not isinstance(values, dict):
        raise DataError(f"{where}: {brief(text[at:end])} is not a JSON object")
    if "\\u" in text[at:end] and not _encodable(values):
        raise DataError(f"{where}: half of a surrogate pair (\\ud...), which is no character")
    return values, end


def _named_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for index, name in enumerate(names) if name in names[:index])
        raise ValueError(f"{brief(twice)} stands twice in one object")
    return found


DECODER = json.JSONDecoder(object_pairs_hook=_named_once)


def _encodable(values: Any) -> bool:
    try:
        json.dumps(values, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _after_space(text: str, at: int) -> int:
    """The first place from ``at`` on that is no white space."""
    while at < len(text) and text[at].isspace():
        at += 1
    return at


def _no_id_twice(rows: Iterable[Row]) -> None:
    seen: dict[tuple[str, str], str] = {}
    for row in rows:
        for column in IDS:
            value = row.values.get(column)
            if value is None or isinstance(value, list | dict):
                continue
            first = seen.setdefault((column, str(value)), row.where)
            if first != row.where:
                raise DataError(f"{row.where}, {column!r}: {brief(value)} also stands in {first.rpartition(', ')[2]}")
