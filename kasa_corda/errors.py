"""Errors a user can act on: each is one sentence that names the key, the value and the nearest valid choice."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from .escaping import printable


class KasaCordaError(Exception):
    """Anything the command line prints as one sentence instead of a traceback."""

    exit_code = 1

    def __str__(self) -> str:
        return printable(super().__str__())  # what it quotes may come from a data file or a model


class ConfigError(KasaCordaError):
    """The request itself is wrong; raised before a model or data set is touched."""

    exit_code = 2


class Unfit(ConfigError):
    """The method, with these options, can't adapt this model for this task."""


class Diverged(KasaCordaError):
    """Training met NaN or infinity and can't go on; the message starts with ``DIVERGED``."""


DIVERGED = "diverged at step"


class DataError(KasaCordaError):
    """A data set or weight file is missing, unreadable or not what it should be."""

    exit_code = 2


def nearest(value: object, choices: Iterable[object], limit: int = 3) -> list[str]:
    """The valid choices most like ``value``, best first (at most ``limit``)."""
    names = [str(choice) for choice in choices]
    lowered = {name.lower(): name for name in names}
    text = str(value).lower()
    close = difflib.get_close_matches(text, lowered, n=limit, cutoff=0.5)
    close += [low for low in lowered if text and (text in low or low in text) and low not in close]
    return [lowered[low] for low in close[:limit]]


def unknown(key: str, value: object, choices: Iterable[object]) -> str:
    """'key=value is unknown; did you mean x? Valid: ...' as one sentence."""
    names = sorted(str(choice) for choice in choices)
    close = nearest(value, names)
    hint = f"; did you mean {' or '.join(close)}?" if close else "."
    listed = ", ".join(names) if len(names) <= 40 else ", ".join(names[:40]) + ", ..."
    return f"{key}={value} is unknown{hint} Valid: {listed}"
