"""Stored measurements of runs and rehearsals, and what the cost model says of the same work."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

from ..config import RunConfig
from ..config.validate import typed
from .estimate import phases, step
from .memory import memory_of
from .profile import Profile
from .work import Work, work_of

PHASES = ("step", "fit", "evaluate", "prepare")
"""what is predicted one by one; prepare is with adapt. Load and data are too small, or depend on caches"""
NOTABLE = 0.05
"""share of a run below which a phase is noise"""


@dataclass(frozen=True)
class Observation:
    """One run or rehearsal as it was measured."""

    name: str
    device: str
    config: dict[str, Any]
    """the whole run config"""
    seconds: dict[str, float]
    """phase -> seconds; ``step`` of a rehearsal: the median over its steps"""
    concurrent: int = 1
    """runs that shared the device, this one included"""
    device_bytes: int | None = None
    host_bytes: int | None = None
    batch: dict[str, float] | None = None
    """rows, length and longest of its batches where they were set (a rehearsal)"""
    about: str = ""
    """what was run, and how: versions, date"""

    @property
    def group(self) -> str:
        """What it belongs to: the part of the name before the colon."""
        return self.name.split(":")[0]

    @property
    def run(self) -> RunConfig:
        return typed(self.config)

    def notable(self) -> dict[str, float]:
        """The phases that are predicted, but for those that take next to nothing of the run."""
        least = NOTABLE * sum(self.seconds.values())
        return {name: seconds for name, seconds in self.seconds.items() if name in PHASES and seconds > least}

    def work(self) -> Work:
        """The counted work, with the batches that were really used."""
        work = work_of(self.run)
        if self.batch is None:
            return work
        rows, length = self.batch["rows"], self.batch["length"]
        return replace(work, tokens=rows * length, rows=rows, length=length, longest=self.batch["longest"])


@dataclass(frozen=True)
class Comparison:
    """One measured number beside its prediction."""

    name: str
    what: str
    """step, fit, evaluate, prepare, total, device memory, host memory"""
    measured: float
    predicted: float

    @property
    def error(self) -> float:
        """predicted / measured - 1."""
        return self.predicted / self.measured - 1


def predictions(config: RunConfig, work: Work, profile: Profile, concurrent: int) -> dict[str, float]:
    """Phase (and ``step``) -> predicted seconds; prepare and adapt together, as they are measured."""
    found = {name: part.together(concurrent) for name, part in phases(config, work, profile).items()}
    found["prepare"] += found.pop("adapt")
    found["step"] = step(work.shape, work, config, profile).together(concurrent)
    return found


def compared(observation: Observation, profile: Profile) -> list[Comparison]:
    """Every number of an observation that the model predicts."""
    config, work = observation.run, observation.work()
    predicted = predictions(config, work, profile, observation.concurrent)
    found = [
        Comparison(observation.name, name, measured, predicted[name])
        for name, measured in observation.notable().items()
    ]
    memory = memory_of(config, work)
    if observation.device_bytes:
        peak = memory.device
        if observation.batch is not None:  # a rehearsal evaluates nothing, and keeps no best state
            peak = replace(memory, evaluation=0, preparation=0).device
        found.append(Comparison(observation.name, "device memory", observation.device_bytes, peak))
    elif observation.host_bytes:
        found.append(Comparison(observation.name, "host memory", observation.host_bytes, memory.host(gpu=False)))
    return found


def read(folder: Path) -> list[Observation]:
    """Every observation in the files of a folder; each file holds one or a list. Files of something else are passed."""
    found: list[Observation] = []
    for path in sorted(folder.glob("*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        rows = content if isinstance(content, list) else [content]
        found += [Observation(**row) for row in rows if isinstance(row, dict) and "config" in row]
    return found


def concurrency(results: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Run id -> how many of these results' runs went on at the same time, itself included, on average over its time."""
    ends = {r["run_id"]: datetime.fromisoformat(r["provenance"]["date"]).timestamp() for r in results}
    spans = {r["run_id"]: (ends[r["run_id"]] - r["seconds"]["total"], ends[r["run_id"]]) for r in results}
    return {
        name: sum(max(0.0, min(end, other[1]) - max(begin, other[0])) for other in spans.values())
        / max(end - begin, 1e-9)
        for name, (begin, end) in spans.items()
    }


def as_json(observations: Sequence[Observation]) -> str:
    """The content of a file that ``read`` reads."""
    rows = [asdict(each) for each in observations]
    return json.dumps(rows[0] if len(rows) == 1 else rows, indent=1) + "\n"


def spread(comparisons: Sequence[Comparison]) -> tuple[float, Comparison] | None:
    """(median of |error|, the worst comparison); None without any."""
    if not comparisons:
        return None
    return median(abs(c.error) for c in comparisons), max(comparisons, key=lambda c: abs(c.error))
