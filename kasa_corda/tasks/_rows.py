"""Rows of a question data set: from files in a local folder or a package, else from the hub."""

from __future__ import annotations

import csv
import gzip
import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import DataError


@dataclass(frozen=True)
class Row:
    """One row as published; ``where`` says file and line, or hub split and row."""

    values: dict[str, Any]
    where: str

    def text(self, column: str) -> str:
        """A column that must hold a text that is not empty."""
        value = self._value(column)
        if not isinstance(value, str) or not value.strip():
            raise DataError(f"{self.where}, {column!r}: {value!r} is not a text, or an empty one")
        return value

    def texts(self, column: str) -> list[str]:
        """A column that must hold at least one text."""
        value = self._value(column)
        if not isinstance(value, list) or not value or not all(isinstance(v, str) and v.strip() for v in value):
            raise DataError(f"{self.where}, {column!r}: {value!r} is not a list of texts")
        return value

    def _value(self, column: str) -> Any:
        if column not in self.values:
            raise DataError(f"{self.where}: {column!r} is missing; found {', '.join(map(str, self.values))}")
        return self.values[column]


@dataclass
class Rows:
    """The rows of every split that was found, and where they came from."""

    splits: dict[str, list[Row]]
    source: str
    notes: list[str] = field(default_factory=list)


def read_rows(config: Any, data_dir: Path | None, optional: tuple[str, ...] = ()) -> Rows:
    """The splits of a question task (folder, files, hub_id, ... of its config).

    Local files come first; splits in ``optional`` may lack their file. DataError within seconds if neither the
    folder nor the hub has the data.
    """
    files = {name: [given] if isinstance(given, str) else list(given) for name, given in config.files.items()}
    folder = _folder(data_dir, config.folder)
    missing = [name for name, several in files.items() if folder and not all((folder / f).is_file() for f in several)]
    if folder and set(missing) <= set(optional):
        found = {n: read_files(folder, several) for n, several in files.items() if n not in missing}
        return Rows(found, f"local folder {folder}")
    lacks = " and ".join(file for name in missing for file in files[name] if folder and not (folder / file).is_file())
    local = f"{folder} lacks {lacks}" if folder else f"{_nowhere(data_dir, config.folder)}"
    if config.package:
        return _of_package(config, files, local)
    from ._hub import load_hub

    try:
        loaded = load_hub(config.hub_id, config.hub_config, list(config.splits.values()), config.hub_revision)
    except DataError as error:
        wanted = " and ".join(
            f"{config.folder}/{f}" for n, several in files.items() if n not in optional for f in several
        )
        raise DataError(
            f"task {config.name} can't be read: {local}; {error}. Ways on: connect to the hub; give "
            f"data_dir=FOLDER (or set KASA_CORDA_DATA) with {wanted}; or use a built-in task such as task=reviews"
        ) from None
    rows = {
        ours: [Row(values, f"hub {config.hub_id}, split {theirs}, row {i}") for i, values in enumerate(table)]
        for ours, theirs in config.splits.items()
        for table in [loaded.splits[theirs]]
    }
    return Rows(rows, loaded.source, [f"local folder not used: {local}"] if folder else [])


def _of_package(config: Any, files: dict[str, list[str]], local: str) -> Rows:
    """The rows of the files in a pinned package."""
    from ..errors import KasaCordaError
    from ..models.packages import ensure_package

    try:
        unpacked = ensure_package(config.package)
    except KasaCordaError as error:
        raise DataError(f"task {config.name} can't be read: {local}; {error}") from None
    return Rows({name: read_files(unpacked, several) for name, several in files.items()}, f"package {config.package}")


def read_files(folder: Path, names: list[str]) -> list[Row]:
    """The rows of one split's files, one after the other."""
    return [row for name in names for row in read_file(folder / name)]


def read_file(path: Path) -> list[Row]:
    """The rows of one file, read as its suffix says; DataError names file and line."""
    text = _text(path)
    suffix = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    rows = {".csv": _csv, ".json": _json}.get(suffix, _json_lines)(text, path)
    if not rows:
        raise DataError(f"{path} has no rows")
    return rows


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
        return (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8-sig")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise DataError(f"{path} can't be read as UTF-8 text: {error}") from None


def _csv(text: str, path: Path) -> list[Row]:
    """Comma-separated with a header line; quoted fields may hold line breaks."""
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    rows = []
    try:
        for values in reader:
            if None in values or None in values.values():
                columns = len(reader.fieldnames or ())
                raise DataError(f"{path}, line {reader.line_num}: not {columns} columns as in the header")
            rows.append(Row(dict(values), f"{path}, line {reader.line_num}"))
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: not comma-separated values ({error})") from None
    return rows


def _json(text: str, path: Path) -> list[Row]:
    """One list of objects."""
    try:
        found = json.loads(text)
    except ValueError as error:
        raise DataError(f"{path}: not JSON ({error})") from None
    if not isinstance(found, list):
        raise DataError(f"{path} holds a {type(found).__name__}, not a list of objects")
    for index, values in enumerate(found):
        if not isinstance(values, dict):
            raise DataError(f"{path}, item {index}: {str(values)[:40]!r} is not an object")
    return [Row(values, f"{path}, item {index}") for index, values in enumerate(found)]


def _json_lines(text: str, path: Path) -> list[Row]:
    """One JSON object per line; empty lines are left out."""
    lines = text.split("\n")
    rows = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except ValueError as error:
            raise DataError(f"{path}, line {number}: not JSON ({error})") from None
        if not isinstance(values, dict):
            raise DataError(f"{path}, line {number}: {line[:40]!r} is not a JSON object")
        rows.append(Row(values, f"{path}, line {number}"))
    return rows


def _folder(data_dir: Path | None, name: str | None) -> Path | None:
    if data_dir is None or name is None:
        return None
    found = data_dir / name
    return found if found.is_dir() else data_dir if data_dir.name == name else None


def _nowhere(data_dir: Path | None, name: str | None) -> str:
    return f"{data_dir} has no folder {name}" if data_dir else "data_dir is not given"
