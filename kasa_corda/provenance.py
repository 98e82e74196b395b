"""Where a result comes from: code, packages, device, command."""

from __future__ import annotations

import platform
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("kasa-corda", "torch", "transformers", "peft", "accelerate", "datasets", "hydra-core", "numpy")


def provenance(command: list[str]) -> dict[str, Any]:
    """Everything a reader needs to run the same thing again."""
    from accelerate import PartialState

    return {
        "command": shlex.join(command),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "git": git_state(),
        "python": platform.python_version(),
        "versions": package_versions(),
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
