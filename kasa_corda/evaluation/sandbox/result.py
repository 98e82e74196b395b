"""What goes into a sandbox and what comes out."""

from __future__ import annotations

from dataclasses import dataclass, field

from ...errors import KasaCordaError


class SandboxError(KasaCordaError):
    """The sandbox itself failed: no verdict on the program."""


@dataclass(frozen=True)
class Program:
    """A generated program and the tests it must pass.

    Tests run in another process than the program. They see the program's ``names``: functions and classes as stand-ins
    whose arguments and results are copied, everything else as data.
    """

    source: str
    names: list[str]
    """what the tests need from it"""
    tests: list[str]
    """sources, run in order in one namespace; any exception is a failure"""
    before: str = ""
    """trusted source that the tests need; run in their namespace first"""


@dataclass(frozen=True)
class Outcome:
    """The verdict on one program."""

    passed: bool
    kind: str
    """how it failed: the exception's name (AssertionError: a test was not met), timeout, killed, exit (it ended by
    itself), output (unreadable or too large), file size, refused; empty if it passed"""
    detail: str = ""
    """the exception's text, at most 200 characters"""
    seconds: float = field(default=0.0, compare=False)
    """on the wall, with the start of the sandbox"""
