"""Why a run failed, as far as another attempt is concerned."""

from __future__ import annotations

import errno
from collections.abc import Iterator

from ..launch import OUT_OF_MEMORY

MEMORY, CONNECTION, KILLED = "memory", "connection", "killed"
"""causes that may be gone next time"""

UNSTEADY = {
    errno.EIO,
    errno.EINTR,
    errno.EAGAIN,
    errno.EPIPE,
    errno.ESTALE,
    errno.ETIMEDOUT,
    errno.ENETDOWN,
    errno.ENETUNREACH,
    errno.EHOSTUNREACH,
    errno.ECONNRESET,
    errno.ECONNABORTED,
    errno.ECONNREFUSED,
}
WORDS = ("does not answer", "connection", "timed out", "temporarily unavailable", "name resolution", "max retries")


def cause_of(error: BaseException) -> str | None:
    """MEMORY or CONNECTION if another attempt may do better, else None."""
    for each in _chain(error):
        text = str(each).lower()
        if isinstance(each, MemoryError) or any(words in text for words in OUT_OF_MEMORY):
            return MEMORY
        if isinstance(each, ConnectionError | TimeoutError) or getattr(each, "errno", None) in UNSTEADY:
            return CONNECTION
        if any(words in text for words in WORDS):
            return CONNECTION
    return None


def unexpected(error: BaseException) -> bool:
    """Whether the process that met it should not go on: a crash may leave a device or its memory unusable."""
    return any(not type(each).__module__.startswith("kasa_corda") for each in _chain(error))


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what it came from."""
    found: list[BaseException] = []
    each: BaseException | None = error
    while each is not None and each not in found:
        found.append(each)
        each = each.__cause__ or (None if each.__suppress_context__ else each.__context__)
    yield from found
