"""The user's cache: folders that are complete or not there, shared by all processes."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from ..errors import DataError
from ..store import follow_umask, write_atomically

RECORD = "source.json"


def cache_dir() -> Path:
    """The user's cache: KASA_CORDA_CACHE, or ``~/.cache/kasa_corda``."""
    return Path(os.environ.get("KASA_CORDA_CACHE") or "~/.cache/kasa_corda").expanduser().absolute()


def is_complete(folder: Path) -> bool:
    """Whether every file listed in the folder's record is there at its recorded size."""
    try:
        sizes = json.loads((folder / RECORD).read_text(encoding="utf-8"))["files"]
        return all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False


@contextmanager
def locked(folder: Path, purpose: str) -> Iterator[None]:
    """Hold a folder of the cache for one process; others say that they wait. DataError if it can't be written."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder.parent / f".{folder.name}.lock")
        try:
            lock.acquire(timeout=0.1)
        except Timeout:
            print(f"{purpose}: another process is at it; waiting", file=sys.stderr, flush=True)
            lock.acquire()
    except OSError as error:
        raise DataError(
            f"the cache folder {folder.parent} can't be written ({error.strerror or error});"
            " set KASA_CORDA_CACHE to a folder of your own"
        ) from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def built(folder: Path, origin: dict[str, str]) -> Iterator[Path]:
    """An empty folder to fill, which becomes ``folder`` if the block succeeds. Call it inside ``locked``.

    A record of its ``origin``, names and sizes is added; without it, or with other sizes, nothing is trusted.
    """
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        unfinished.mkdir()
        yield unfinished
        follow_umask(unfinished)
        sizes = {path.name: path.stat().st_size for path in sorted(unfinished.iterdir())}
        write_atomically(unfinished / RECORD, json.dumps({**origin, "files": sizes}, indent=2) + "\n")
        shutil.rmtree(folder, ignore_errors=True)
        unfinished.replace(folder)
    except OSError as error:
        raise DataError(
            f"{folder} can't be written ({error.strerror or error});"
            " make room, or set KASA_CORDA_CACHE to another folder"
        ) from None
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
