"""Namespaces made by the program's own launcher: the default where bubblewrap is not installed."""

from __future__ import annotations

import sys
from typing import Any

from .base import Sandbox, nothing_to_clean, python_command
from .guest import namespaces
from .limits import Limits
from .view import GUEST, PACKAGES, interpreter, this_machine


class Unshare(Sandbox):
    name = "unshare"
    layers = "namespaces of all kinds; read-only files; limits; system call filter"

    def missing(self) -> str | None:
        return None if sys.platform == "linux" and namespaces.supported() else "needs Linux on x86-64 or arm64"

    def start(self, limits: Limits) -> Any:
        view = this_machine().settings(limits.file_bytes, limits.files)
        settings = self.settings(limits.rlimits(), view=view, path=[PACKAGES])
        return nothing_to_clean(python_command(interpreter(), str(GUEST), settings))
