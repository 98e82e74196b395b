"""Generated texts, written as they are finished, so that a killed evaluation goes on where it was.

``predictions/<split>.partial[.<process>].jsonl``: a first line that says what the texts belong to (decoding, backend,
state of the model), then one line per text. A file whose first line says something else is left aside and overwritten.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from ..errors import KasaCordaError

Key = tuple[str, int]
"""what names a text: its example with its prompt, and the sample"""


@dataclass
class Journal:
    """One split in one state of the model. ``open`` it, ``add`` to it; ``remove`` when the final file is written."""

    folder: Path
    split: str
    state: str
    """which weights generate: after which step, and whether that is the best or the last state"""
    _file: IO[str] | None = field(default=None, repr=False)

    def open(self, **settings: Any) -> dict[Key, str]:
        """The texts that an earlier attempt finished under the same settings; the same on every process."""
        from accelerate import PartialState
        from accelerate.utils import gather_object

        state = PartialState()
        header = {"belongs_to": fingerprint({"state": self.state, **settings})}
        files = sorted(self.folder.glob(f"{self.split}.partial*.jsonl"))
        mine = [row for path in files[state.process_index :: state.num_processes] for row in _texts(path, header)]
        found = {(key, sample): text for key, sample, text in gather_object(mine)}
        self._file = _continued(self._path(state.process_index), header)
        return found

    def add(self, rows: Iterable[tuple[Key, str]]) -> None:
        """Write texts and hand them to the system at once."""
        assert self._file is not None
        for (key, sample), text in rows:
            line = json.dumps({"id": key, "sample": sample, "text": text}, ensure_ascii=False)
            self._file.write(line + "\n")
        self._file.flush()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _path(self, process: int) -> Path:
        return self.folder / (f"{self.split}.partial.{process}.jsonl" if process else f"{self.split}.partial.jsonl")


def remove_journals(folder: Path) -> None:
    """After the final files are written."""
    for path in folder.rglob("*.partial*.jsonl"):
        path.unlink(missing_ok=True)


def fingerprint(settings: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:16]


def prompt_key(example: str, ids: Sequence[int]) -> str:
    """The example's id, and a digest of its prompt: another prompt is another text."""
    return f"{example}/{hashlib.sha256(json.dumps(list(ids)).encode()).hexdigest()[:12]}"


def _lines(path: Path) -> list[str]:
    """Complete lines: one that a kill has torn is left out."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]
    except OSError:
        return []


def _belongs(lines: Sequence[str], header: dict[str, str]) -> bool:
    return bool(lines) and lines[0] == json.dumps(header)


def _texts(path: Path, header: dict[str, str]) -> list[tuple[str, int, str]]:
    lines = _lines(path)
    if not _belongs(lines, header):
        return []
    found = []
    for line in lines[1:]:
        try:
            row = json.loads(line)
            found.append((str(row["id"]), int(row["sample"]), str(row["text"])))
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            continue
    return found


def _continued(path: Path, header: dict[str, str]) -> IO[str]:
    """The file to append to: with its complete lines where it belongs to the same settings, else new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink() or path.is_dir():
        raise KasaCordaError(f"{path} is not a file; remove it, so that finished texts can be kept there")
    if _belongs(_lines(path), header):
        whole = path.read_bytes()
        os.truncate(path, whole.rfind(b"\n") + 1)
        return path.open("a", encoding="utf-8")
    file = path.open("w", encoding="utf-8")
    file.write(json.dumps(header) + "\n")
    file.flush()
    return file
