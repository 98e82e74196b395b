"""Python values as JSON between the judge and the candidate's process. Reading a message never runs foreign code."""

from __future__ import annotations

import builtins
import json
import os
import select
import sys
import time

TYPE_CHECKING = False  # the module typing alone takes as long to import as all of this
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

LONGEST = 16 << 20
"""bytes of one message"""
PLAIN = (type(None), bool, float, str)
LARGE = 1 << 63
"""from here on integers travel in hexadecimal: Python reads and writes long decimal ones in quadratic time"""
IMPORTED = {
    "Decimal": ("decimal", "Decimal"),
    "Fraction": ("fractions", "Fraction"),
    "array": ("array", "array"),
    "date": ("datetime", "date"),
    "datetime": ("datetime", "datetime"),
    "time": ("datetime", "time"),
    "timedelta": ("datetime", "timedelta"),
}
"""types whose modules are imported only when such a value comes"""


class Closed(Exception):
    """The other side is gone."""


class Late(Exception):
    """The other side did not answer in time."""


class Unreadable(Exception):
    """A message that is too long or is none."""


class Pipe:
    """Messages over two file descriptors."""

    def __init__(self, reads: int, writes: int) -> None:
        self.reads, self.writes = reads, writes

    def send(self, message: Any) -> None:
        data = json.dumps(message).encode()
        if len(data) > LONGEST:
            raise Unreadable(f"a value of {len(data):,} bytes")
        data = len(data).to_bytes(4, "big") + data
        try:
            while data:
                data = data[os.write(self.writes, data) :]
        except BrokenPipeError:
            raise Closed from None

    def receive(self, deadline: float | None = None) -> Any:
        """The next message; ``deadline`` in seconds of the monotonic clock."""
        length = int.from_bytes(self._exactly(4, deadline), "big")
        if length > LONGEST:
            raise Unreadable(f"a value of {length:,} bytes")
        try:
            return json.loads(self._exactly(length, deadline))
        except (ValueError, RecursionError):
            raise Unreadable("not a message") from None

    def _exactly(self, count: int, deadline: float | None) -> bytes:
        parts = []
        while count:
            if deadline is not None and not select.select([self.reads], [], [], max(0, deadline - time.monotonic()))[0]:
                raise Late
            part = os.read(self.reads, min(count, 1 << 16))
            if not part:
                raise Closed
            parts.append(part)
            count -= len(part)
        return b"".join(parts)


def pack(value: Any, keep: Callable[[Any], Any]) -> Any:
    """A value as JSON. What is no data (a function, an instance) stays where it is: ``keep`` gives its number.

    Instances of subclasses become plain values of the built-in class, so that no method of theirs is ever asked.
    """
    kind = type(value)
    if kind in PLAIN:
        return value
    if isinstance(value, int):
        return int(value) if -LARGE < value < LARGE else ["int", hex(value)]
    if isinstance(value, (str, float)):
        return str(value) if isinstance(value, str) else float(value)
    if isinstance(value, complex):
        return ["complex", value.real, value.imag]
    if isinstance(value, (bytes, bytearray)):
        return ["bytearray" if isinstance(value, bytearray) else "bytes", value.hex()]
    if kind is range:
        return ["range", value.start, value.stop, value.step]
    if isinstance(value, dict):
        name = kind.__name__ if kind.__module__ == "collections" else "dict"
        return [name, *([pack(k, keep), pack(v, keep)] for k, v in value.items())]
    if isinstance(value, (list, tuple, set, frozenset)):
        name = next(base.__name__ for base in (list, tuple, set, frozenset) if isinstance(value, base))
        return [name, *(pack(item, keep) for item in value)]
    if kind in (type({}.keys()), type({}.items())):  # equal to sets
        return ["frozenset", *(pack(item, keep) for item in value)]
    if kind.__module__ == "collections" and kind.__name__ == "deque":
        return ["deque", *(pack(item, keep) for item in value)]
    if kind.__module__ == "numpy" and getattr(value, "shape", None) == ():
        return pack(value.item(), keep)
    if kind is type and value.__module__ == "builtins" and hasattr(builtins, value.__name__):
        return ["type", value.__name__]
    return _imported(value, kind) or ["object", keep(value)]


def _imported(value: Any, kind: type) -> list[Any] | None:
    name = kind.__name__
    if IMPORTED.get(name) != (kind.__module__, name) and kind.__module__ not in ("decimal", "_decimal"):
        return None
    if name in ("Decimal", "Fraction"):
        return [name, str(value)]
    if name == "array":
        return [name, value.typecode, *value]
    if name == "timedelta":
        return [name, value.days, value.seconds, value.microseconds]
    if name == "date":
        return [name, value.year, value.month, value.day]
    if name in ("datetime", "time") and value.tzinfo is None:
        days = [value.year, value.month, value.day] if name == "datetime" else []
        return [name, *days, value.hour, value.minute, value.second, value.microsecond]
    return None


def unpack(message: Any, kept: Callable[[Any], Any]) -> Any:
    """The value of ``pack``; ``kept`` turns the number of an object into what stands for it here."""
    if not isinstance(message, list):
        return message
    name, *rest = message
    if name == "object":
        return kept(rest[0])
    if name in ("list", "tuple", "set", "frozenset"):
        items = [unpack(item, kept) for item in rest]
        return items if name == "list" else {"tuple": tuple, "set": set, "frozenset": frozenset}[name](items)
    if name == "dict":
        return {unpack(key, kept): unpack(item, kept) for key, item in rest}
    if name in ("OrderedDict", "Counter", "defaultdict", "deque"):
        import collections

        if name == "deque":
            return collections.deque(unpack(item, kept) for item in rest)
        pairs = {unpack(key, kept): unpack(item, kept) for key, item in rest}
        return collections.defaultdict(None, pairs) if name == "defaultdict" else getattr(collections, name)(pairs)
    if name in ("bytes", "bytearray"):
        return bytes.fromhex(rest[0]) if name == "bytes" else bytearray.fromhex(rest[0])
    if name == "int":
        return int(rest[0], 16)
    if name == "type" and isinstance(getattr(builtins, rest[0]), type):
        return getattr(builtins, rest[0])
    if name in ("complex", "range"):
        return {"complex": complex, "range": range}[name](*rest)
    module, attribute = IMPORTED[name]
    __import__(module)
    kind = getattr(sys.modules[module], attribute)
    return kind(rest[0], rest[1:]) if name == "array" else kind(*rest)
