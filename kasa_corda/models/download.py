"""One file from an address to disk: with progress, checked by its sha256, and nothing left behind on failure."""

from __future__ import annotations

import errno
import hashlib
import http.client
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..errors import DataError
from .index import Found, Unreachable
from .network import open_url, without_password

CHUNK_BYTES = 1 << 20
STALL_SECONDS = 30.0
ATTEMPTS = 3
LINE_EVERY_SECONDS = 5.0
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)


@contextmanager
def downloaded(found: Found, target: Path, sha256: str, size: int) -> Iterator[Path]:
    """The file at ``target`` with exactly this sha256, for the duration of the block.

    Unreachable if the content is another one, or if the connection broke off ATTEMPTS times; DataError if the
    disk is full or read-only.
    """
    shown = without_password(found.url)
    try:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                digest = _fetch(found, target, size)
                break
            except (OSError, http.client.HTTPException) as error:
                if getattr(error, "errno", None) in DISK_ERRORS:
                    raise DataError(f"{target} can't be written ({error}); make room or set KASA_CORDA_CACHE") from None
                if attempt == ATTEMPTS or getattr(error, "code", 500) < 500:
                    raise Unreachable(f"the download of {target.stem} from {shown} broke off ({error})") from None
                time.sleep(attempt)
        if digest != sha256:
            raise Unreachable(
                f"{target.stem} from {shown} is not the pinned file and was thrown away"
                f" (sha256 {digest}, expected {sha256})"
            )
        yield target
    finally:
        target.unlink(missing_ok=True)


def _fetch(found: Found, target: Path, size: int) -> str:
    """Copy the content to ``target`` and return its sha256; OSError if fewer bytes came than were announced."""
    digest = hashlib.sha256()
    with _opened(found) as source, target.open("wb") as file, _progress(f"fetch {target.stem}", size) as advance:
        announced = source.headers.get("Content-Length") if hasattr(source, "headers") else None
        received = 0
        while chunk := source.read(CHUNK_BYTES):
            received += len(chunk)
            if received > size:
                break
            digest.update(chunk)
            file.write(chunk)
            advance(len(chunk))
        if announced and announced.isdecimal() and received < min(size, int(announced)):
            raise ConnectionError(f"{received:,} of {int(announced):,} bytes came")
    return digest.hexdigest()


def _opened(found: Found) -> Any:
    if found.url.startswith("file:"):
        import urllib.request

        return urllib.request.urlopen(found.url)
    return open_url(found.url, STALL_SECONDS, found.settings.trusted_hosts, found.settings.certificates)


@contextmanager
def _progress(title: str, size: int) -> Iterator[Any]:
    """A bar in a terminal; elsewhere a line at the start, every few seconds and at the end."""
    stream = sys.stderr
    if stream.isatty():
        style = {"unit": "B", "unit_scale": True, "leave": False, "dynamic_ncols": True}
        with tqdm(total=size, desc=title, file=stream, **style) as bar:
            yield bar.update
        return
    began = shown = time.monotonic()
    done = 0

    def advance(count: int) -> None:
        nonlocal done, shown
        done += count
        if time.monotonic() - shown >= LINE_EVERY_SECONDS:
            shown = time.monotonic()
            print(f"{title}: {done / 1e6:.0f} of {size / 1e6:.0f} MB", file=stream, flush=True)

    print(f"{title}: {size / 1e6:.1f} MB", file=stream, flush=True)
    yield advance
    print(f"{title}: done in {time.monotonic() - began:.1f} s", file=stream, flush=True)
