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

from .errors import ConfigError, KasaCordaError
from .escaping import printable
from .privacy import from_home, public

PREDICTIONS = "predictions"
MOST_VALUES = 100_000
"""in one config.yaml"""
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


def below(folder: Path, *names: str) -> Path:
    """A path inside ``folder``; ConfigError for a name that would lead out of it. A name may have several parts."""
    for name in names:
        if not is_inner(name):
            raise ConfigError(f"the name {name!r} can't be a path below {folder}; use letters, digits and / between")
    return folder.joinpath(*names)


def is_inner(name: str) -> bool:
    """Whether a name stays in the folder that it is looked for in."""
    parts = name.split("/")
    plain = printable(name) == name and not set(name) & set("\\\t\n")
    return plain and not any(part in ("", ".", "..") for part in parts)


def limited(plain: Any) -> Any:
    """What a YAML file held; ValueError if references in it multiply to more than any config has."""
    stack, count = [plain], 0
    while stack:
        one = stack.pop()
        count += 1
        if count > MOST_VALUES:
            raise ValueError(f"it has more than {MOST_VALUES:,} values")
        stack += one.values() if isinstance(one, dict) else one if isinstance(one, list) else []
    return plain


def follow_umask(written: Path) -> None:
    """Give weights (a file, or all of a folder) any other file's permissions: safetensors' own are their owner's."""
    umask = os.umask(0o077)
    os.umask(umask)
    for path in written.rglob("*.safetensors") if written.is_dir() else [written]:
        if path.stat().st_mode & 0o777 == 0o600:
            path.chmod(0o666 & ~umask)


def replace_directory(new: Path, target: Path) -> None:
    """Put the finished directory ``new`` in the place of ``target``; the old one lives until the new one is there."""
    follow_umask(new)
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
        return cls(below(Path(config["run_root"]), *names, run_id))

    def config(self) -> dict[str, Any] | None:
        return self._read("config.yaml", lambda text: from_home(limited(yaml.safe_load(text))))

    def status(self) -> dict[str, Any] | None:
        return self._read("status.json", json.loads)

    def result(self) -> dict[str, Any] | None:
        return self._read("result.json", json.loads)

    def state(self) -> str:
        """One of STATES; a run that says 'running' but whose process is gone is 'interrupted'."""
        status = self.status() or {"state": "queued"}
        state = status.get("state")
        if state not in STATES:
            raise self._damaged("status.json", f"it gives the state {state!r}")
        if state == "running" and not _alive(status):
            return "interrupted"
        return str(state)

    def metrics(self) -> list[dict[str, Any]]:
        """Every complete line of metrics.jsonl (a torn last line is left out)."""
        return _read_jsonl(self.path / "metrics.jsonl")

    def predictions(self, split: str) -> list[dict[str, Any]]:
        """Rows (id, prediction, reference, score) of one evaluated split; empty if not saved."""
        return _read_jsonl(below(self.path / PREDICTIONS, f"{split}.jsonl"))

    def write_config(self, config: dict[str, Any]) -> None:
        self._write("config.yaml", yaml.safe_dump(public(config), sort_keys=False))

    def write_status(self, state: str, **details: Any) -> None:
        """Replace status.json; ``attempt`` counts how often this run was started."""
        before = self.status() or {}
        count = before.get("attempt", 0)
        attempt = (count if isinstance(count, int) else 0) + (state == "running" and before.get("pid") != os.getpid())
        status = {
            "state": state,
            "attempt": max(attempt, 1),
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "time": time.time(),
            **details,
        }
        self._write("status.json", json.dumps(public(status), indent=2) + "\n")

    def write_result(self, result: dict[str, Any]) -> None:
        self._write("result.json", json.dumps(public(result), indent=2, default=_plain) + "\n")

    def append_metrics(self, event: dict[str, Any]) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"time": time.time(), **event}, default=_plain) + "\n")

    def write_predictions(self, split: str, rows: Iterable[dict[str, Any]]) -> None:
        lines = (json.dumps(row, ensure_ascii=False, default=_plain) for row in rows)
        write_atomically(below(self.path / PREDICTIONS, f"{split}.jsonl"), "\n".join(lines) + "\n")

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
        for name in ("result.json", "metrics.jsonl", "layers.jsonl", "nonfinite.jsonl", "status.json"):
            (self.path / name).unlink(missing_ok=True)

    @contextmanager
    def lock(self, patience: float = 0) -> Iterator[None]:
        """Hold this run for the current process; KasaCordaError if another has it for ``patience`` seconds."""
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self.path / ".lock", timeout=patience):
                yield
        except Timeout:
            owner = self.status() or {}
            raise KasaCordaError(
                f"{self.path} is being run by process {owner.get('pid', '?')} on {owner.get('host', '?')};"
                " wait for it or stop it"
            ) from None

    def _read(self, name: str, parse: Any) -> Any:
        try:
            found = parse((self.path / name).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
            raise self._damaged(name, error) from None
        if not isinstance(found, dict):
            raise self._damaged(name, f"a {type(found).__name__} instead of a table of keys")
        return found

    def _write(self, name: str, text: str) -> None:
        try:
            write_atomically(self.path / name, text)
        except OSError as error:
            raise KasaCordaError(f"{self.path / name} can't be written ({error.strerror or error})") from None

    def _damaged(self, name: str, reason: object) -> KasaCordaError:
        said = " ".join(str(reason).split())[:300]
        return KasaCordaError(f"{self.path / name} is damaged ({said}); delete it or rerun with force=true")


def find_runs(*roots: str | Path) -> list[RunDirectory]:
    """Every run directory under the given folders, sorted by path."""
    found = {path.parent for root in roots for path in Path(root).rglob("config.yaml")}
    return [RunDirectory(path) for path in sorted(found) if (path / "status.json").exists()]


def _alive(status: dict[str, Any]) -> bool:
    if status.get("host") != socket.gethostname():
        return True
    try:
        os.kill(status["pid"], 0)
    except (ProcessLookupError, KeyError, TypeError, OverflowError):  # nobody, or no process number at all
        return False
    except PermissionError:
        return True
    return True


def _read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Every line that is an object; the others are torn or damaged. KasaCordaError if there is no reading the file."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise KasaCordaError(f"{path} can't be read ({error.strerror or error}); remove it") from None
    rows = []
    for line in text.split("\n"):  # splitlines() also cuts at U+2028
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows


def _plain(value: Any) -> Any:
    """JSON form of numpy and torch scalars and of paths."""
    if hasattr(value, "item"):
        return value.item()
    if hasattr(value, "tolist"):
        return value.tolist()
    return str(value)
