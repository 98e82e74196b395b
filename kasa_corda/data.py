"""The data of a run: which task, from which folder, and whether there is any."""

from __future__ import annotations

import os
from pathlib import Path

from .config import RunConfig
from .errors import DataError
from .methods import METHODS
from .tasks import TASKS, Task, TaskData
from .tasks.base import NOTHING_TRAINS


def load_data(config: RunConfig) -> tuple[Task, TaskData]:
    """The task of a run and its splits, none of them empty; DataError if they can't be reached."""
    method = METHODS[config.method.name](config.method)
    trains = method.trains
    reads = trains or (method.calibrated and config.calibration.source == "train")
    task = TASKS[config.task.family](config.task)
    task.fit_into(config.model.max_positions - method.virtual_tokens)
    data = task.load(data_folder(config), config.selection if reads else NOTHING_TRAINS)
    for name, split in (data.splits() if trains else data.test).items():
        if not split:
            raise DataError(f"the {name} split from {data.source} is empty")
    return task, data


def data_folder(config: RunConfig) -> Path | None:
    """``data_dir``, or KASA_CORDA_DATA, or None. ``validate`` has refused what is no folder."""
    chosen = config.data_dir or os.environ.get("KASA_CORDA_DATA")
    return Path(chosen).expanduser() if chosen else None


def counts_text(data: TaskData) -> str:
    """'8,000 train, 1,049 select, 1,021 test'."""
    return ", ".join(f"{len(split):,} {name}" for name, split in data.splits().items())
