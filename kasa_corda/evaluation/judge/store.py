"""Verdicts on disk: one JSON line each, appended as it arrives, found again by what was asked."""

from __future__ import annotations

import hashlib
import json
import threading
from pathlib import Path
from typing import Any

from filelock import FileLock

from ...errors import DataError
from .settings import JudgeConfig


def request_key(settings: JudgeConfig, messages: list[dict[str, str]]) -> str:
    """Names a verdict by judge and request: the same answer judged the same way is asked for once."""
    asked = [settings.base_url, settings.model, settings.temperature, settings.max_tokens, messages]
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:24]


class Store:
    """All verdicts of one file. Threads and processes may append at the same time; torn lines are left out."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lines = path.read_text(encoding="utf-8").split("\n") if path.exists() else []
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(
                f"verdicts can't be kept in {path} ({error}); set KASA_CORDA_CACHE to another folder"
            ) from None
        self._verdicts = {record["key"]: record for line in lines if (record := _record(line))}

    def __contains__(self, key: str) -> bool:
        return key in self._verdicts

    def __getitem__(self, key: str) -> dict[str, Any]:
        return self._verdicts[key]

    def add(self, record: dict[str, Any]) -> None:
        """Keep one verdict (with ``key`` and ``reply``)."""
        # begins a line even after one that a killed process tore
        line = f"\n{json.dumps(record)}\n".encode()
        try:
            with self._lock, FileLock(f"{self.path}.lock"), self.path.open("ab") as file:
                file.write(line)
        except OSError as error:
            raise DataError(f"{self.path} can't be written ({error}); set KASA_CORDA_CACHE to another folder") from None
        self._verdicts[record["key"]] = record


def _record(line: str) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    whole = isinstance(found, dict) and isinstance(found.get("key"), str) and isinstance(found.get("reply"), str)
    return found if whole else None
