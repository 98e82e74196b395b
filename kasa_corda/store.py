"""Run directories: written atomically, read back, found again.

``runs/<task>/<model>/<method>/<run_id>/`` holds config.yaml, status.json, metrics.jsonl, layers.jsonl,
predictions/, checkpoint/, adapter/ and result.json.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from .errors import KasaCordaError

PREDICTIONS = "predictions"
STATES = ("queued", "running", "finished", "failed", "interrupted")


def write_atomically(path: Path, text: str) -> None:
    """Write to a temporary name beside ``path``, flush to disk, then rename over it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def replace_directory(new: Path, target: Path) -> None:
    """Put the finished directory ``new`` in the place of ``target``; the old one lives until the new one is there."""
    old = target.with_name(f"{target.name}.old")
    if target.exists():
        shutil.rmtree(old, ignore_errors=True)
        target.replace(old)
    new.replace(target)
    shutil.rmtree(old, ignore_errors=True)


@dataclass(frozen=True)
class RunDirectory:
    """One run on disk. Reading methods return None where nothing has been written yet."""

    path: Path

    @property
    def run_id(self) -> str:
        return self.path.name

    @classmethod
    def of(cls, config: dict[str, Any], run_id: str) -> RunDirectory:
        names = [config[group]["name"] for group in ("task", "model", "method")]
        return cls(Path(config["run_root"]).joinpath(*names, run_id))

    def config(self) -> dict[str, Any] | None:
        return self._read("config.yaml", yaml.safe_load)

    def status(self) -> dict[str, Any] | None:
        return self._read("status.json", json.loads)

    def result(self) -> dict[str, Any] | None:
        return self._read("result.json", json.loads)

    def state(self) -> str:
        """One of STATES; a run that says 'running' but whose process is gone is 'interrupted'."""
        status = self.status() or {"state": "queued"}
        if status["state"] == "running" and not _alive(status):
            return "interrupted"
        return status["state"]

    def metrics(self) -> list[dict[str, Any]]:
        """Every complete line of metrics.jsonl (a torn last line is left out)."""
        return _read_jsonl(self.path / "metrics.jsonl")

    def predictions(self, split: str) -> list[dict[str, Any]]:
        """Rows (id, prediction, reference, score) of one evaluated split; empty if not saved."""
        return _read_jsonl(self.path / PREDICTIONS / f"{split}.jsonl")

    def write_config(self, config: dict[str, Any]) -> None:
        write_atomically(self.path / "config.yaml", yaml.safe_dump(config, sort_keys=False))

    def write_status(self, state: str, **details: Any) -> None:
        """Replace status.json; ``attempt`` counts how often this run was started."""
        before = self.status() or {}
        attempt = before.get("attempt", 0) + (state == "running" and before.get("pid") != os.getpid())
        status = {
            "state": state,
            "attempt": max(attempt, 1),
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "time": time.time(),
            **details,
        }
        write_atomically(self.path / "status.json", json.dumps(status, indent=2) + "\n")

    def write_result(self, result: dict[str, Any]) -> None:
        write_atomically(self.path / "result.json", json.dumps(result, indent=2, default=_plain) + "\n")

    def append_metrics(self, event: dict[str, Any]) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"time": time.time(), **event}, default=_plain) + "\n")

    def write_predictions(self, split: str, rows: Iterable[dict[str, Any]]) -> None:
        lines = (json.dumps(row, ensure_ascii=False, default=_plain) for row in rows)
        write_atomically(self.path / PREDICTIONS / f"{split}.jsonl", "\n".join(lines) + "\n")

    def write_layers(self, rows: Iterable[dict[str, Any]]) -> None:
        """One line per adapted layer: what preparing it found and did (see docs/kasa.md, docs/corda.md)."""
        lines = (json.dumps(row, default=_plain) for row in rows)
        write_atomically(self.path / "layers.jsonl", "\n".join(lines) + "\n")

    def layers(self) -> list[dict[str, Any]]:
        """Rows of ``write_layers``; empty if the method had nothing to say."""
        return _read_jsonl(self.path / "layers.jsonl")

    def forget(self) -> None:
        """Drop what an earlier attempt left, for ``force=true``."""
        for name in ("checkpoint", "checkpoint.old", "preparation", "adapter", PREDICTIONS):
            shutil.rmtree(self.path / name, ignore_errors=True)
        for name in ("result.json", "metrics.jsonl", "layers.jsonl", "status.json"):
            (self.path / name).unlink(missing_ok=True)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold this run for the current process; KasaCordaError if another process has it."""
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self.path / ".lock", timeout=0):
                yield
        except Timeout:
            owner = self.status() or {}
            raise KasaCordaError(
                f"{self.path} is being run by process {owner.get('pid', '?')} on {owner.get('host', '?')};"
                " wait for it or stop it"
            ) from None

    def _read(self, name: str, parse: Any) -> Any:
        try:
            return parse((self.path / name).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise KasaCordaError(
                f"{self.path / name} is damaged ({error}); delete it or rerun with force=true"
            ) from None


def find_runs(*roots: str | Path) -> list[RunDirectory]:
    """Every run directory under the given folders, sorted by path."""
    found = {path.parent for root in roots for path in Path(root).rglob("config.yaml")}
    return [RunDirectory(path) for path in sorted(found) if (path / "status.json").exists()]


def _alive(status: dict[str, Any]) -> bool:
    if status.get("host") != socket.gethostname():
        return True
    try:
        os.kill(status["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _read_jsonl(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8").split("\n"):  # splitlines() also cuts at U+2028
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows


def _plain(value: Any) -> Any:
    """JSON form of numpy and torch scalars and of paths."""
    if hasattr(value, "item"):
        return value.item()
    if hasattr(value, "tolist"):
        return value.tolist()
    return str(value)
