"""The process of the program under test. It gets calls and gives values; tests and expected values never come here."""

from __future__ import annotations

import operator
import sys
from types import ModuleType

from .wire import Closed, Pipe, Unreadable, pack, unpack

TYPE_CHECKING = False  # the module typing alone takes as long to import as all of this
if TYPE_CHECKING:
    from typing import Any

OPERATIONS: dict[str, Any] = {
    "bool": operator.truth,
    "delete": delattr,
    "get": getattr,
    "item": operator.getitem,
    "iter": iter,
    "len": len,
    "next": next,
    "same": operator.eq,
    "set": setattr,
    "set item": operator.setitem,
    "str": str,
}
MUTABLE = (list, dict, set, bytearray)


class Candidate:
    """Runs requests of the judge on the program's own objects."""

    def __init__(self, pipe: Pipe) -> None:
        self.pipe = pipe
        self.objects: list[Any] = []

    def serve(self) -> None:
        """First message: [program, wanted names]; then [operation, value, ...] until the judge goes."""
        self.answer(lambda: self.load(*self.pipe.receive()))
        while True:
            request = self.pipe.receive()
            self.answer(lambda request=request: self.operate(*request))

    def answer(self, work: Any) -> None:
        try:
            reply = work()
        except Closed:
            raise
        except BaseException as error:  # whatever a program raises, SystemExit too, is an answer
            names = [kind.__name__ for kind in type(error).__mro__]
            reply = ["raised", names, _said(error)]
        try:
            self.pipe.send(reply)
        except (Unreadable, ValueError, RecursionError, MemoryError) as error:
            self.pipe.send(["raised", [type(error).__name__, "Exception"], _said(error)])

    def load(self, program: str, wanted: list[str]) -> list[Any]:
        module = ModuleType("solution")
        sys.modules["solution"] = module
        exec(compile(program, "<solution>", "exec", dont_inherit=True), module.__dict__)
        return ["defined", {name: self.pack(vars(module)[name]) for name in wanted if name in vars(module)}]

    def operate(self, operation: str, *packed: Any) -> list[Any]:
        values = [unpack(value, self.objects.__getitem__) for value in packed]
        if operation != "call":
            return ["value", self.pack(OPERATIONS[operation](*values)), None]
        function: Any = values[0]
        arguments, keywords = list(values[1]), dict(values[2])
        result = self.pack(function(*arguments, **keywords))
        after = [self.pack(a) if isinstance(a, MUTABLE) else None for a in arguments]
        before = packed[1][1:]
        return ["value", result, [None if a == b else a for a, b in zip(after, before, strict=True)]]

    def pack(self, value: Any) -> Any:
        return pack(value, self.keep)

    def keep(self, value: Any) -> int:
        self.objects.append(value)
        return len(self.objects) - 1


def _said(error: BaseException) -> str:
    try:
        return str(error)[:200]
    except BaseException:
        return ""
