"""Runs the tests. The program under test is another process: all that comes back from it is data, never an object."""

from __future__ import annotations

import builtins
import time

from .wire import Closed, Late, Pipe, Unreadable, pack, unpack

TYPE_CHECKING = False  # the module typing alone takes as long to import as all of this
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any


class Gone(BaseException):
    """The candidate's process ended, was too slow or sent what can't be read: nothing can pass any more."""

    def __init__(self, kind: str, detail: str = "") -> None:
        super().__init__(kind, detail)
        self.kind, self.detail = kind, detail


class Raised(Exception):
    """An exception of the program that Python itself does not define."""


class Link:
    """The judge's end of the pipe to the candidate."""

    def __init__(self, pipe: Pipe, deadline: float) -> None:
        self.pipe, self.deadline = pipe, deadline
        self.gone: Gone | None = None
        self.raised: dict[int, str] = {}
        """id of an exception made here -> the name of the program's exception"""
        self.exceptions: list[BaseException] = []

    def ask(self, request: list[Any]) -> list[Any]:
        if self.gone:
            raise self.gone
        try:
            self.pipe.send(request)
            reply = self.pipe.receive(self.deadline)
            if reply[0] == "raised":
                names, said = [str(name) for name in reply[1]], str(reply[2])[:200]
            elif reply[0] not in ("value", "defined"):
                raise Unreadable("no answer")
        except Late:
            self.gone = Gone("timeout")
            raise self.gone from None
        except Closed:
            self.gone = Gone("ended")
            raise self.gone from None
        except (Unreadable, LookupError, TypeError) as error:
            self.gone = Gone("output", str(error))
            raise self.gone from None
        if reply[0] == "raised":
            raise self.exception(names, said)
        return reply

    def exception(self, names: list[str], said: str) -> Exception:
        known = [getattr(builtins, name, None) for name in names]
        kind = next((k for k in known if isinstance(k, type) and issubclass(k, Exception)), Raised)
        try:
            error = kind(said)
        except TypeError:  # UnicodeDecodeError and its like want more
            error = Raised(said)
        self.raised[id(error)] = names[0] if names else "Exception"
        self.exceptions.append(error)  # keeps its id
        return error

    def value(self, packed: Any) -> Any:
        try:
            return unpack(packed, lambda number: Remote(self, number))
        except Exception as error:
            self.gone = Gone("output", f"not a value: {type(error).__name__}")
            raise self.gone from None

    def operate(self, operation: str, *values: Any) -> Any:
        return self.value(self.ask([operation, *map(self.pack, values)])[1])

    def pack(self, value: Any) -> Any:
        return pack(value, _number)

    def call(self, function: Remote, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        packed = [self.pack(value) for value in (function, list(arguments), keywords)]
        _, result, changed = self.ask(["call", *packed])
        for argument, after in zip(arguments, changed or [], strict=False):
            if after is not None:
                _overwrite(argument, self.value(after))
        return self.value(result)


class Remote:
    """Stands for an object of the program. It has no arithmetic and no order, and equals no plain value."""

    def __init__(self, link: Link, number: int) -> None:
        self.__dict__.update(_link=link, _number=number)

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        return self._link.call(self, arguments, keywords)

    def __getattr__(self, name: str) -> Any:
        return self._link.operate("get", self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._link.operate("set", self, name, value)

    def __iter__(self) -> Iterator[Any]:
        iterator = self._link.operate("iter", self)
        if type(iterator) is not Remote:
            yield from iterator
            return
        while True:
            try:
                item = self._link.operate("next", iterator)
            except StopIteration:
                return
            yield item

    def __next__(self) -> Any:
        return self._link.operate("next", self)

    def __len__(self) -> int:
        return self._link.operate("len", self)

    def __getitem__(self, key: Any) -> Any:
        return self._link.operate("item", self, key)

    def __setitem__(self, key: Any, value: Any) -> None:
        self._link.operate("set item", self, key, value)

    def __bool__(self) -> bool:
        return self._link.operate("bool", self) is True

    def __str__(self) -> str:
        return self._link.operate("str", self)

    def __eq__(self, other: object) -> bool:
        return type(other) is Remote and self._link.operate("same", self, other) is True

    def __hash__(self) -> int:
        return self._number


def judge(job: dict[str, Any], pipe: Pipe) -> dict[str, Any]:
    """The verdict on a program: passed, gone (its process), kind of failure, detail. ``job``: a ``result.Program``."""
    link = Link(pipe, time.monotonic() + job["seconds"])
    finished, kind, detail = False, "", ""
    try:
        namespace: dict[str, Any] = {"__name__": "tests"}
        _run(job["before"], namespace)
        _, defined = link.ask([job["source"], job["names"]])
        namespace |= {name: link.value(defined[name]) for name in job["names"] if name in defined}
        for test in job["tests"]:
            _run(test, namespace)
        finished = True
    except Gone as gone:
        kind, detail = gone.kind, gone.detail
    except BaseException as error:  # whatever tests raise is a verdict
        kind = link.raised.get(id(error), type(error).__name__)
        detail = _said(error)
    if link.gone:  # even if the tests swallow every exception
        kind, detail = link.gone.kind, link.gone.detail
    # kind alone would not do: a program may call its exception as it likes
    return {"passed": finished and not link.gone, "gone": link.gone is not None, "kind": kind, "detail": detail}


def _run(source: str, namespace: dict[str, Any]) -> None:
    exec(compile(source, "<tests>", "exec", dont_inherit=True), namespace)


def _overwrite(argument: Any, value: Any) -> None:
    """What the program did to an argument, done to the judge's own: list, dict, set or bytearray."""
    if type(argument) is not type(value):
        return
    if isinstance(argument, (list, bytearray)):
        argument[:] = value
    elif isinstance(argument, (dict, set)):
        argument.clear()
        argument.update(value)


def _number(value: Any) -> int:
    if type(value) is Remote:
        return value._number
    raise TypeError(f"tests pass a {type(value).__name__}, which can't be sent to another process")


def _said(error: BaseException) -> str:
    try:
        return str(error)[:200]
    except BaseException:
        return ""
