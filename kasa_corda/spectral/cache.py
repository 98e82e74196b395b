"""Subspaces on disk, shared by all processes: one safetensors file per matrix, named by content."""

from __future__ import annotations

import math
import os
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError

from ..errors import ConfigError
from ..models.cache import cache_dir
from .stored import UNREADABLE, metadata_of, packed, read
from .subspace import Subspace

DEFAULT_GB = 20.0
ABANDONED_SECONDS = 3600


@dataclass(frozen=True)
class Entry:
    """One stored subspace, as listed by scripts/cache.py."""

    path: Path
    octets: int
    used: float
    """time of last use, seconds since the epoch"""
    about: Mapping[str, str]
    """its metadata; empty if the file can't be read"""


class SpectralCache:
    """A folder of subspaces, bounded in size; the least recently used go first.

    A file appears complete or not at all (it is renamed into place), so no process ever waits for another. What can't
    be read is computed again, what can't be written is left out; either is said once, through ``say``.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        max_gb: float | None = None,
        model: str = "",
        say: Callable[[str], None] | None = None,
    ) -> None:
        self.folder = folder or cache_dir() / "spectral"
        self.max_octets = (limit_from_environment() if max_gb is None else max_gb) * 1e9
        self.model = model
        self.say = say or (lambda text: print(text, file=sys.stderr, flush=True))
        self._said: set[str] = set()
        self._writable = True

    def get(self, key: str, device: torch.device) -> Subspace | None:
        """The stored subspace, of whatever rank it has, or None. Reading it counts as use."""
        path = self._path(key)
        try:
            stored = read(path, key, device)
        except FileNotFoundError:
            return None
        except UNREADABLE as error:
            self._say_once("read", f"spectral cache: {path} is damaged ({_first_line(error)}); it is computed again")
            return None
        with suppress(OSError):  # a cache that may only be read
            os.utime(path)
        return stored

    def put(self, key: str, subspace: Subspace, about: Mapping[str, str]) -> None:
        """Store it unless the disk refuses; ``about`` is shown by scripts/cache.py."""
        if not self._writable:
            return
        path = self._path(key)
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(packed(key, subspace, {**about, "model": self.model}))
            temporary.replace(path)
        except (OSError, SafetensorError) as error:
            self._writable = False
            self._say_once(
                "write", f"spectral cache: {self.folder} can't be written ({_first_line(error)}); going on without it"
            )
            with suppress(OSError):
                temporary.unlink(missing_ok=True)

    def entries(self) -> list[Entry]:
        """All files, least recently used first."""
        return [Entry(path, size, used, metadata_of(path)) for used, size, path in self._files()]

    def evict(self, *, max_octets: float | None = None, older_than: float = math.inf) -> list[Path]:
        """Remove the least recently used files until the size fits, and all unused for ``older_than`` seconds."""
        limit = self.max_octets if max_octets is None else max_octets
        files = self._files()
        total, now = sum(size for _, size, _ in files), time.time()
        removed = []
        for used, size, path in files:
            if total > limit or now - used > older_than:
                with suppress(OSError):
                    path.unlink()
                    removed.append(path)
                    total -= size
        for path in self.folder.glob("??/.*.tmp"):  # left by a process that was killed
            with suppress(OSError):
                if now - path.stat().st_mtime > ABANDONED_SECONDS:
                    path.unlink()
        return removed

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.safetensors"

    def _files(self) -> list[tuple[float, int, Path]]:
        """Time of last use, size and path, least recently used first."""
        found = []
        for path in self.folder.glob("??/*.safetensors"):
            with suppress(OSError):
                stat = path.stat()
                found.append((stat.st_mtime, stat.st_size, path))
        return sorted(found)

    def _say_once(self, kind: str, text: str) -> None:
        if kind not in self._said:
            self._said.add(kind)
            self.say(text)


def limit_from_environment() -> float:
    """KASA_CORDA_CACHE_GB in gigabytes."""
    text = os.environ.get("KASA_CORDA_CACHE_GB") or str(DEFAULT_GB)
    try:
        limit = float(text)
    except ValueError:
        limit = math.nan
    if not limit >= 0:
        raise ConfigError(f"KASA_CORDA_CACHE_GB={text} must be a size in gigabytes, for example {DEFAULT_GB:g}")
    return limit


def _first_line(error: BaseException) -> str:
    return getattr(error, "strerror", None) or (str(error).splitlines() or [type(error).__name__])[0]
