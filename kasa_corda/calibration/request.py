"""The calibration set of one run, chosen before its model is loaded."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from ..config import RunConfig
from ..data import data_folder
from ..models.loading import load_tokenizer
from ..models.sources import locate
from ..progress import Progress
from ..tasks import Task, TaskData
from .samples import Calibration, check_texts, choose
from .settings import check_calibration
from .sources import RunData

if TYPE_CHECKING:
    import torch

    from ..methods import Method

FOLDER = "preparation"
"""of a run directory: the finished blocks of an interrupted preparation"""


def calibration_for(
    config: RunConfig,
    method: Method,
    task: Task,
    data: TaskData,
    device: torch.device,
    run_directory: Path,
    progress: Progress,
) -> Calibration | None:
    """The calibration set of a method that needs one: texts read and checked, samples drawn with the tokenizer."""
    if not method.calibrated:
        return None
    wanted, model = config.calibration, config.model
    materials = check_calibration(wanted, model).load(RunData(task, data, data_folder(config), config.selection))
    check_texts(materials, wanted)
    tokenizer = load_tokenizer(locate(asdict(model)).folder, trust_remote_code=model.trust_remote_code)
    chosen = choose(materials, wanted, tokenizer)
    chosen.device, chosen.folder, chosen.progress = device, run_directory / FOLDER, progress
    progress.say(f"calibration: {len(chosen.rows):,} samples, {chosen.tokens:,} tokens from {chosen.origin}")
    return chosen


def remove_preparation(run_directory: Path) -> None:
    """Drop the finished blocks of a run that no longer needs them."""
    shutil.rmtree(run_directory / FOLDER, ignore_errors=True)
