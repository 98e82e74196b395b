"""Rows of a question data set: from JSON-lines files in a local folder, else from the hub."""

from __future__ import annotations

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
    folder = _folder(data_dir, config.folder)
    missing = [name for name, file in config.files.items() if folder and not (folder / file).is_file()]
    if folder and set(missing) <= set(optional):
        found = {name: read_jsonl(folder / file) for name, file in config.files.items() if name not in missing}
        return Rows(found, f"local folder {folder}")
    lacks = " and ".join(config.files[name] for name in missing)
    local = f"{folder} lacks {lacks}" if folder else f"{_nowhere(data_dir, config.folder)}"
    from ._hub import load_hub

    try:
        loaded = load_hub(config.hub_id, config.hub_config, list(config.splits.values()), config.hub_revision)
    except DataError as error:
        files = " and ".join(f"{config.folder}/{file}" for name, file in config.files.items() if name not in optional)
        raise DataError(
            f"task {config.name} can't be read: {local}; {error}. Ways on: connect to the hub; give "
            f"data_dir=FOLDER (or set KASA_CORDA_DATA) with {files}; or use a built-in task such as task=reviews"
        ) from None
    rows = {
        ours: [Row(values, f"hub {config.hub_id}, split {theirs}, row {i}") for i, values in enumerate(table)]
        for ours, theirs in config.splits.items()
        for table in [loaded.splits[theirs]]
    }
    return Rows(rows, loaded.source, [f"local folder not used: {local}"] if folder else [])


def read_jsonl(path: Path) -> list[Row]:
    """One JSON object per line; empty lines are left out. DataError names file and line."""
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} can't be read as UTF-8 text: {error}") from None
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
    if not rows:
        raise DataError(f"{path} has no rows")
    return rows


def _folder(data_dir: Path | None, name: str) -> Path | None:
    if data_dir is None:
        return None
    found = data_dir / name
    return found if found.is_dir() else data_dir if data_dir.name == name else None


def _nowhere(data_dir: Path | None, name: str) -> str:
    return f"{data_dir} has no folder {name}" if data_dir else "data_dir is not given"
