"""Generated code is run here and nowhere else: in a process, namespaces and a file system of its own.

Two processes: the judge runs the tests, the program under test answers calls. Only data crosses, so a program can't
reach the tests, the verdict or the comparison (docs/sandbox.md).
"""

from .base import Sandbox
from .choice import CHOICES, SANDBOXES, choose
from .limits import Limits
from .pool import run_all
from .result import Outcome, Program, SandboxError

__all__ = [
    "CHOICES",
    "SANDBOXES",
    "Limits",
    "Outcome",
    "Program",
    "Sandbox",
    "SandboxError",
    "choose",
    "run_all",
]
