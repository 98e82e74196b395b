"""The GPUs of this machine, as values of CUDA_VISIBLE_DEVICES, and how many runs there are at a time."""

from __future__ import annotations

import os


def gpus() -> list[str]:
    """Every GPU that this process may use; empty on a machine without."""
    import torch

    count = torch.cuda.device_count()
    visible = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return visible[:count] if visible else [str(index) for index in range(count)]


def cores() -> int:
    """Processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def environment(devices: tuple[str, ...], threads: int) -> dict[str, str]:
    """The environment of a worker; without devices it sees no GPU."""
    share = str(max(1, threads))
    return {
        **os.environ,
        "CUDA_VISIBLE_DEVICES": ",".join(devices),
        "KASA_CORDA_THREADS": share,
        "OMP_NUM_THREADS": share,
        "PYTHONUNBUFFERED": "1",
    }
