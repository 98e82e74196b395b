"""The files that a sandboxed program can see: a Python interpreter, its standard library, shared libraries, numpy."""

from __future__ import annotations

import importlib.util
import os
import sys
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

PACKAGES = "/packages"
"""where third-party packages lie in there"""
VISIBLE = ("numpy",)
"""third-party packages that programs and tests may import"""
ENVIRONMENT = {
    "HOME": "/tmp",
    "TMPDIR": "/tmp",
    "LANG": "C.UTF-8",
    "TZ": "UTC",
    "PYTHONHASHSEED": "0",  # programs that print or index sets do so alike in every run
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}
"""all that is left of the environment"""
GUEST = Path(__file__).parent
"""folder that holds the package ``guest``"""


@dataclass(frozen=True)
class View:
    """A read-only file system. Keys are sorted so that parents come before what lies in them."""

    binds: dict[str, str]
    """path in the view -> file or folder of this machine"""
    links: dict[str, str] = field(default_factory=dict)
    """path in the view -> target of the symbolic link"""

    def settings(self, scratch_bytes: int, scratch_files: int) -> dict[str, Any]:
        return {**asdict(self), "scratch_bytes": scratch_bytes, "scratch_files": scratch_files}


def interpreter() -> str:
    """The Python under the virtual environment, if there is one: without its packages."""
    return os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)


def packages() -> dict[str, str]:
    """Folder name -> folder of every visible package, with its bundled libraries."""
    found: dict[str, str] = {}
    for name in VISIBLE:
        spec = importlib.util.find_spec(name)
        for folder in [Path(spec.origin).parent] if spec and spec.origin else []:
            libraries = folder.with_name(f"{name}.libs")
            found |= {path.name: str(path.resolve()) for path in (folder, libraries) if path.is_dir()}
    return found


@cache
def this_machine() -> View:
    """System libraries, the interpreter and visible packages; nothing of /etc but the table of libraries, no /home."""
    binds: dict[str, str] = {}
    links: dict[str, str] = {}
    for path in map(Path, ("/usr", "/bin", "/lib", "/lib32", "/lib64", "/etc/ld.so.cache")):
        if path.is_symlink():
            links[str(path)] = str(path.readlink())
        elif path.exists():
            binds[str(path)] = str(path)
    for prefix in (os.path.realpath(sys.base_prefix), os.path.realpath(sys.base_exec_prefix)):
        if not any(prefix == path or prefix.startswith(f"{path}/") for path in binds):
            binds[prefix] = prefix
    binds |= {f"{PACKAGES}/{name}": folder for name, folder in packages().items()}
    return View(dict(sorted(binds.items())), links)
