"""Plain HTTP with the user's proxies, certificates and passwords, and time limits that hold."""

from __future__ import annotations

import base64
import netrc
import os
import queue
import ssl
import threading
import urllib.request
from collections.abc import Callable, Collection
from typing import Any, TypeVar
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

T = TypeVar("T")

CERTIFICATE_VARIABLES = ("PIP_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


class Started(threading.Thread):
    """A function running in the background; it may outlive the wait (a name look-up can't be cancelled)."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        super().__init__(daemon=True)
        self.answer: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue()
        self.function, self.arguments = function, arguments
        self.start()

    def run(self) -> None:
        try:
            self.answer.put((self.function(*self.arguments), None))
        except BaseException as error:
            self.answer.put((None, error))

    def result(self, seconds: float) -> Any:
        """What the function returned or raised; TimeoutError if it takes longer than ``seconds`` from now."""
        try:
            value, error = self.answer.get(timeout=max(seconds, 0.01))
        except queue.Empty:
            raise TimeoutError("no answer in time") from None
        if error is not None:
            raise error
        return value


def within(seconds: float, function: Callable[..., T], *arguments: Any) -> T:
    """The function's result; TimeoutError after ``seconds``, whatever it hangs on."""
    return Started(function, *arguments).result(seconds)


def open_url(
    url: str, timeout: float, trusted_hosts: Collection[str | None] = (), certificates: str | None = None
) -> Any:
    """An HTTP response to read from. ``timeout`` (seconds) holds for connecting and for each read.

    A user name and password in the URL, or in netrc, go to that host only. ``trusted_hosts`` are not
    asked for a valid certificate, as pip does; what is downloaded is checked by its sha256 all the same.
    """
    parts = urlsplit(url)
    headers = {"User-Agent": "kasa_corda", "Accept": "text/html, */*;q=0.1"}
    request = urllib.request.Request(without_password(url), headers=headers)
    if login := _login(parts):
        token = base64.b64encode(":".join(login).encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {token}")
    trusted = parts.hostname in trusted_hosts or parts.netloc.rpartition("@")[2] in trusted_hosts
    context = ssl._create_unverified_context() if trusted else _context(certificates)
    opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=context))
    return opener.open(request, timeout=timeout)


def without_password(url: str) -> str:
    """The URL without user name and password, fit to be shown."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def with_login_of(url: str, index: str) -> str:
    """``url`` with the user name and password of ``index`` if both are on the same host."""
    parts, source = urlsplit(url), urlsplit(index)
    if "@" in source.netloc and parts.netloc == source.netloc.rpartition("@")[2]:
        return urlunsplit(parts._replace(netloc=source.netloc))
    return url


def _login(parts: SplitResult) -> tuple[str, str] | None:
    if parts.username is not None:
        return unquote(parts.username), unquote(parts.password or "")
    try:
        found = netrc.netrc(os.environ.get("NETRC")).authenticators(parts.hostname or "")
    except (OSError, netrc.NetrcParseError):
        return None
    return (found[0], found[2] or "") if found else None


def _context(certificates: str | None) -> ssl.SSLContext:
    """The system's certificates (SSL_CERT_FILE counts), certifi's, and those the user named for pip or requests."""
    context = ssl.create_default_context()
    files = [certificates, *(os.environ.get(name) for name in CERTIFICATE_VARIABLES)]
    try:
        import certifi

        files.append(certifi.where())
    except ImportError:
        pass
    for file in files:
        if file and os.path.isfile(file):  # noqa: PTH113
            context.load_verify_locations(cafile=file)
    return context
