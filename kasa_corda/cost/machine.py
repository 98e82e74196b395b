"""What this machine has: devices, memory, disk, a hub that answers."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Machine:
    """Facts that decide whether a suite can run here."""

    device: str
    """name of the GPU, or of the processor with its threads"""
    gpus: int
    device_bytes: int
    """memory of one GPU; 0 without"""
    host_bytes: int
    disk_bytes: int
    """free where the runs will be"""
    hub: bool | None
    """whether the Hugging Face hub answers; None if it was not asked"""

    @property
    def memory(self) -> int:
        return self.device_bytes or self.host_bytes

    def text(self) -> str:
        gpu = f"{self.gpus} x {self.device} of {gib(self.device_bytes)}" if self.gpus else f"no GPU, {self.device}"
        hub = {True: "hub answers", False: "no hub", None: "hub not asked"}[self.hub]
        return f"{gpu}, {gib(self.host_bytes)} memory, {gib(self.disk_bytes)} free disk, {hub}"


def gib(octets: float) -> str:
    return f"{octets / 2**30:,.1f} GiB"


def device_name() -> str:
    """As result.json names the device of a run."""
    from ..provenance import device_name as named

    return named()


def this_machine(folder: Path, *, ask_hub: bool) -> Machine:
    """Look around; ``ask_hub`` allows one request of a few seconds."""
    import torch

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    memory = min(torch.cuda.get_device_properties(i).total_memory for i in range(gpus)) if gpus else 0
    return Machine(device_name(), gpus, memory, host_memory(), free_disk(folder), hub_answers() if ask_hub else None)


def host_memory() -> int:
    """Memory that this process may use: the machine's, or its control group's limit."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        return min(total, int(limit))
    except (OSError, ValueError):
        return total


def free_disk(folder: Path) -> int:
    """Free bytes where ``folder`` is or will be."""
    folder = folder.absolute()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def hub_answers() -> bool:
    """Whether the Hugging Face hub is reachable."""
    from ..tasks._hub import hub_answers as asked

    return asked()
