"""Limits without namespaces: weaker, so it must be asked for by name.

Where the kernel has Landlock the program reads only what the other ways show and writes only its own folder, and the
system call filter takes processes, sockets and signals from it. Without them it is an ordinary process of this user
(of nobody, if this is root and nobody can read the interpreter) with limits.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .base import Sandbox, python_command
from .guest.namespaces import NOBODY
from .limits import Limits
from .view import ENVIRONMENT, GUEST, interpreter, packages, this_machine

DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random")


class Rlimit(Sandbox):
    name = "rlimit"
    layers = "limits; system call filter and Landlock where the kernel has them; no namespaces"

    def missing(self) -> str | None:
        return None if sys.platform == "linux" else "needs Linux"

    @contextmanager
    def start(self, limits: Limits) -> Iterator[tuple[list[str], str]]:
        folder = tempfile.mkdtemp(prefix=f"kasa-corda-program-{os.getpid()}-")
        try:
            scratch = Path(folder, "tmp")
            scratch.mkdir()
            Path(folder, "packages").mkdir()
            for name, target in packages().items():
                Path(folder, "packages", name).symlink_to(target)
            user = NOBODY if os.getuid() == 0 and _anyone_can_read(interpreter()) else None
            if user is not None:
                Path(folder).chmod(0o755)
                os.chown(scratch, user, user)
            readable = [*this_machine().binds.values(), f"{folder}/packages", *DEVICES]
            settings = self.settings(
                limits.rlimits(counts_threads=user is not None),
                user=user,
                landlock=(readable, [str(scratch)]),
                path=[f"{folder}/packages"],
                environment={**ENVIRONMENT, "HOME": str(scratch), "TMPDIR": str(scratch)},
            )
            yield python_command(interpreter(), str(GUEST), settings), str(scratch)
        finally:
            shutil.rmtree(folder, onerror=_open_up)


def _anyone_can_read(path: str) -> bool:
    return all(parent.stat().st_mode & 0o001 for parent in Path(path).parents)


def _open_up(function: object, path: str, _: object) -> None:
    """A program may make a folder that its owner can't list: give the rights back and try again."""
    found = Path(path)
    found.parent.chmod(0o700)
    if found.is_dir() and not found.is_symlink():
        found.chmod(0o700)
        shutil.rmtree(path, onerror=_open_up)
    else:
        found.unlink(missing_ok=True)
