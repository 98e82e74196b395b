"""Finished blocks of preparations that the runs of a sweep share: the same model, calibration set and recipe."""

from __future__ import annotations

import hashlib
import os
import shutil
from contextlib import suppress
from pathlib import Path

from ..models.cache import cache_dir
from ..spectral.cache import limit_from_environment

FOLDER = "preparations"


def kept_folder(identity: str) -> Path | None:
    """Where the blocks of this preparation are kept for other runs; None outside a sweep."""
    if not os.environ.get("KASA_CORDA_SHARED"):
        return None
    return cache_dir() / FOLDER / hashlib.sha256(identity.encode()).hexdigest()[:24]


def keep(file: Path, folder: Path) -> None:
    """Put a finished file there too, whole or not at all; where the disk refuses, other runs make their own."""
    building = folder / f".{file.name}.{os.getpid()}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            os.link(file, building)
        except OSError:
            shutil.copyfile(file, building)
        building.replace(folder / file.name)
        evict(folder)
    except OSError:
        with suppress(OSError):
            building.unlink(missing_ok=True)


def used(folder: Path) -> None:
    """Reading counts as use."""
    with suppress(OSError):
        os.utime(folder)


def evict(but: Path) -> None:
    """Remove the least recently used preparations, never ``but``, until KASA_CORDA_CACHE_GB holds them."""
    found = []
    for folder in but.parent.iterdir():
        with suppress(OSError):
            size = sum(path.stat().st_size for path in folder.iterdir())
            found.append((folder.stat().st_mtime, size, folder))
    total = sum(size for _, size, _ in found)
    for _, size, folder in sorted(found):
        if total <= limit_from_environment() * 1e9:
            return
        if folder != but:
            shutil.rmtree(folder, ignore_errors=True)
            total -= size
