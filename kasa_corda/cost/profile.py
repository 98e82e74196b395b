"""What a machine achieves: the numbers that turn counted work into seconds, and where they come from."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

from ..models.cache import cache_dir
from ..store import write_atomically

STORED = Path(__file__).with_name("profiles.json")
MEASURED = Path(__file__).resolve().parents[2] / "benchmarks" / "results" / "cost"


@dataclass(frozen=True)
class Profile:
    """One device. Rates are achieved ones, whole training steps included, not a data sheet's."""

    device: str
    kind: str
    """gpu or cpu"""
    flops_32: float
    """FLOP/s in float32"""
    flops_16: float
    """FLOP/s in bfloat16 or float16"""
    bandwidth: float
    """bytes/s of memory-bound kernels"""
    host: float
    """seconds that the host needs to start one kernel"""
    busy: float
    """seconds that the device is busy with the smallest kernel"""
    spectral: float
    """sum of m n min(m, n) decomposed per second"""
    spectral_layer: float
    """seconds per decomposed layer whatever its size"""
    read: float
    """bytes/s of reading weights"""
    batch: float = 0.003
    """seconds beside the kernels of one evaluated batch: padding, transfer, waiting for the result"""
    examples: float = 10_000.0
    """training examples read and encoded per second"""
    start: float = 12.0
    """seconds until the run begins: interpreter, imports, device"""
    memory: int = 0
    """bytes of a GPU; 0 where it is not known"""
    fitted_on: str = ""
    note: str = ""
    """what the reader of a plan must know of this profile"""

    def flops(self, precision: str) -> float:
        return self.flops_32 if precision in ("fp32", "float32") else self.flops_16


def read_profiles(path: Path = STORED) -> dict[str, Profile]:
    """Device name -> its stored profile."""
    return {row["device"]: _from_json(row) for row in json.loads(path.read_text(encoding="utf-8"))}


def _from_json(row: dict[str, Any]) -> Profile:
    known = {f.name for f in fields(Profile)}
    return Profile(**{key: value for key, value in row.items() if key in known})


def profile_for(device: str | None = None, *, folder: Path = MEASURED) -> Profile:
    """The profile of a device (this machine's by default): calibrated here, else refined by stored rehearsals, else
    stored, else that of the nearest known device, which its ``note`` says."""
    from .machine import device_name

    return _profile_for(device or device_name(), str(folder), _stamp(folder, device or device_name()))


@cache
def _profile_for(device: str, folder: str, stamp: tuple[Any, ...]) -> Profile:
    from .fitting import refined

    if calibrated_file(device).is_file():
        return _from_json(json.loads(calibrated_file(device).read_text(encoding="utf-8")))
    known = read_profiles()
    base = known.get(device) or _nearest(device, known)
    return refined(base, Path(folder) / slug(device)) if base.device == device else base


def _stamp(folder: Path, device: str) -> tuple[Any, ...]:
    files = sorted((folder / slug(device)).glob("*.json"))
    calibrated = calibrated_file(device)
    return (len(files), calibrated.stat().st_mtime if calibrated.is_file() else 0)


def _nearest(device: str, known: dict[str, Profile]) -> Profile:
    cpu = "threads)" in device
    base = next(p for p in known.values() if (p.kind == "cpu") is cpu)
    row = {**asdict(base), "device": device}
    threads = re.search(r"\((\d+) threads\)", device)
    was = re.search(r"\((\d+) threads\)", base.device)
    if threads and was:
        scale = int(threads[1]) / int(was[1])
        row |= {key: row[key] * scale for key in ("flops_32", "flops_16", "spectral")}
    row["note"] = f"{device} has not been measured: figures of {base.device}" + (
        " scaled by the number of threads" if threads and was else ""
    )
    row["note"] += "; --calibrate measures it"
    return Profile(**row)


def calibrated_file(device: str) -> Path:
    """Where ``--calibrate`` keeps what it found."""
    return cache_dir() / "cost" / f"{slug(device)}.json"


def keep(profile: Profile) -> Path:
    """Store a calibrated profile in the cache."""
    path = calibrated_file(profile.device)
    write_atomically(path, json.dumps(asdict(profile), indent=2) + "\n")
    return path


def slug(device: str) -> str:
    """A device's name as a folder: NVIDIA H100 80GB HBM3 -> nvidia_h100_80gb_hbm3."""
    return re.sub(r"[^a-z0-9]+", "_", device.lower()).strip("_")
