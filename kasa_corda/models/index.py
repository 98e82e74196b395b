"""Where a file of the Python package index can be fetched: the indexes that the user's pip is configured for."""

from __future__ import annotations

import ast
import http.client
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit
from urllib.request import url2pathname

from ..errors import DataError
from .network import Started, open_url, with_login_of, without_password

DEFAULT_INDEX = "https://pypi.org/simple"
LOOKUP_SECONDS = 5.0
LARGEST_PAGE = 64 * 2**20


class Unreachable(DataError):
    """A file that no configured place gave."""


@dataclass(frozen=True)
class Settings:
    """What pip is configured for: places to look, in order, and how to trust them."""

    indexes: tuple[str, ...]
    links: tuple[str, ...]
    """folders or pages with plain links to files (pip's find-links)"""
    trusted_hosts: tuple[str, ...] = ()
    certificates: str | None = None


@dataclass(frozen=True)
class Found:
    """The address of a file, and the settings to fetch it with."""

    url: str
    settings: Settings


def find_file(project: str, file: str) -> Found:
    """The address of ``file`` of a project. Unreachable within about LOOKUP_SECONDS if no place gives it."""
    settings = pip_settings()
    places = [*((link, link) for link in settings.links)]
    for index in settings.indexes:
        places.append((index, f"{index.rstrip('/')}/{re.sub(r'[-_.]+', '-', project).lower()}/"))
    deadline = time.monotonic() + LOOKUP_SECONDS
    searches = [(place, Started(_look, address, file, settings)) for place, address in places]
    tried = []
    for place, search in searches:
        shown = without_password(place)
        try:
            if url := search.result(deadline - time.monotonic()):
                return Found(url, settings)
            tried.append(f"{shown}: does not have it")
        except (OSError, ValueError, http.client.HTTPException) as error:
            tried.append(f"{shown}: {_reason(error)}")
    raise Unreachable(f"no package index has {file} ({'; '.join(tried) or 'pip is configured for no index at all'})")


def pip_settings() -> Settings:
    """pip's index-url, extra-index-url, find-links, no-index, trusted-host and cert, from its files and variables."""
    found = _pip_config()

    def value(name: str) -> str:
        variable = os.environ.get(f"PIP_{name.upper().replace('-', '_')}")
        stored = (found.get(f"{section}.{name}") for section in ("download", "install", "global"))
        return next((text for text in (variable, *stored) if text is not None), "")

    main = value("index-url") or os.environ.get("UV_DEFAULT_INDEX") or os.environ.get("UV_INDEX_URL") or DEFAULT_INDEX
    offline = value("no-index").lower() in ("1", "true", "yes", "on")
    return Settings(
        indexes=() if offline else (main, *value("extra-index-url").split()),
        links=tuple(value("find-links").split()),
        trusted_hosts=tuple(value("trusted-host").split()),
        certificates=value("cert") or None,
    )


def _pip_config() -> dict[str, str]:
    """'section.name' -> value as ``pip config list`` prints it; empty where there is no pip."""
    pip = shutil.which("pip")
    for command in ([sys.executable, "-m", "pip"], [pip] if pip else None):
        if command is None:
            continue
        try:
            done = subprocess.run([*command, "config", "list"], capture_output=True, text=True, timeout=20, check=True)
            pairs = (line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
            return {key: str(ast.literal_eval(value)) for key, value in pairs}
        except (OSError, subprocess.SubprocessError, ValueError, SyntaxError):
            continue
    return {}


def _look(address: str, file: str, settings: Settings) -> str | None:
    """The address of ``file`` in a folder, or among the links of a page; OSError if it can't be read."""
    folder = _local(address)
    if folder is not None:
        if (folder / file).is_file():
            return (folder / file).absolute().as_uri()
        page = folder / "index.html" if folder.is_dir() else folder
        if not page.is_file():
            return None
        base, text = page.absolute().as_uri(), page.read_text(encoding="utf-8", errors="replace")
    else:
        with open_url(address, LOOKUP_SECONDS, settings.trusted_hosts, settings.certificates) as answer:
            base, text = answer.geturl(), answer.read(LARGEST_PAGE).decode("utf-8", errors="replace")
    links = _Links(base)
    links.feed(text)
    for link in links.found:
        if unquote(urlsplit(link).path).rpartition("/")[2] == file:
            return with_login_of(link.partition("#")[0], address)
    return None


def _local(address: str) -> Path | None:
    """The path that an address without http means, else None."""
    parts = urlsplit(address)
    if parts.scheme in ("http", "https"):
        return None
    return Path(url2pathname(parts.path)) if parts.scheme == "file" else Path(address).expanduser()


class _Links(HTMLParser):
    """Absolute addresses of all links of a page."""

    def __init__(self, base: str) -> None:
        super().__init__()
        self.base = base
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        href = dict(attrs).get("href")
        if tag == "base" and href:
            self.base = urljoin(self.base, href)
        elif tag == "a" and href:
            self.found.append(urljoin(self.base, href))


def _reason(error: Exception) -> str:
    if getattr(error, "code", None) == 404:
        return "does not have it"
    return str(getattr(error, "reason", "") or error) or type(error).__name__
