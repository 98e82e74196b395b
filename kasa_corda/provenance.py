"""Where a result comes from: code, packages, device, command."""

from __future__ import annotations

import platform
import shlex
import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import Any

from .privacy import public_command

PACKAGES = ("kasa-corda", "torch", "transformers", "peft", "accelerate", "datasets", "hydra-core", "numpy")


def provenance(command: list[str]) -> dict[str, Any]:
    """Everything a reader needs to run the same thing again."""
    import torch
    from accelerate import PartialState

    return {
        "command": public_command(shlex.join(command)),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "git": git_state(),
        "python": platform.python_version(),
        "versions": package_versions(),
        "environment": {"packages": installed(), "cuda": torch.version.cuda, "platform": platform.platform()},
        "device": device_name(),
        "processes": PartialState().num_processes,
    }


def git_state() -> dict[str, Any] | None:
    """Commit and dirty flag of the checkout this package runs from; None outside a checkout."""
    root = Path(__file__).resolve().parents[1]
    try:
        sha, status = (
            subprocess.run(
                ["git", "-C", str(root), *args], capture_output=True, text=True, timeout=10, check=True
            ).stdout
            for args in (["rev-parse", "HEAD"], ["status", "--porcelain"])
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return {"sha": sha.strip(), "dirty": bool(status.strip())}


def package_versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


@cache
def installed(root: str = "kasa-corda") -> dict[str, str]:
    """Versions of everything that a distribution needs, directly or not, and of its extras, except for those of its
    developers, as far as they are there."""
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.utils import canonicalize_name

    found: dict[str, str] = {}
    waiting = [root]
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name in found:
            continue
        try:
            here = distribution(name)
        except PackageNotFoundError:
            continue
        found[name] = here.version
        for line in here.requires or ():
            with suppress(InvalidRequirement):
                needed = Requirement(line)
                extras = ["", *(here.metadata.get_all("Provides-Extra") or ())] if name == root else [""]
                if needed.marker is None or any(needed.marker.evaluate({"extra": e}) for e in extras if e != "dev"):
                    waiting.append(needed.name)
    return dict(sorted(found.items()))


def device_name() -> str:
    """The GPU if there is one, else the processor with its core count."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{_processor()} ({torch.get_num_threads()} threads)"


def _processor() -> str:
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
