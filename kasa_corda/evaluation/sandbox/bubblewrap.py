"""bubblewrap (bwrap): a small, well-known program that makes the namespaces."""

from __future__ import annotations

import shutil
from typing import Any

from .base import Sandbox, nothing_to_clean, python_command
from .guest.namespaces import DEVICES
from .limits import Limits
from .view import ENVIRONMENT, GUEST, PACKAGES, interpreter, this_machine

JUDGE = "/judge"
"""where the package ``guest`` lies in there"""
NOBODY = "65534"


class Bubblewrap(Sandbox):
    name = "bubblewrap"
    layers = (
        "bubblewrap's user, mount, process, network, IPC, host-name namespaces; read-only files; limits; call filter"
    )

    def missing(self) -> str | None:
        return None if shutil.which("bwrap") else "bwrap is not installed"

    def start(self, limits: Limits) -> Any:
        view = this_machine()
        flags = ["--unshare-all", "--unshare-user", "--die-with-parent", "--new-session", "--as-pid-1"]
        flags += ["--uid", NOBODY, "--gid", NOBODY, "--cap-drop", "ALL", "--clearenv"]
        for name, value in ENVIRONMENT.items():
            flags += ["--setenv", name, value]
        for target, source in view.binds.items():
            flags += ["--ro-bind", source, target]
        for name in DEVICES:
            flags += ["--dev-bind", f"/dev/{name}", f"/dev/{name}"]
        flags += ["--ro-bind", str(GUEST / "guest"), f"{JUDGE}/guest"]
        for path, target in view.links.items():
            flags += ["--symlink", target, path]
        for path in ("/tmp", "/dev/shm"):
            flags += ["--size", str(limits.file_bytes), "--tmpfs", path]
        flags += ["--remount-ro", "/", "--chdir", "/tmp"]
        settings = self.settings(limits.rlimits(), parent=None, path=[PACKAGES])
        return nothing_to_clean(
            [shutil.which("bwrap") or "bwrap", *flags, "--", *python_command(interpreter(), JUDGE, settings)]
        )
