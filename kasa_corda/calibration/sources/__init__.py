"""Where calibration texts come from, one file per kind. Register a subclass with ``@SOURCES.register("name")``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...registry import Registry

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from ...tasks import Task, TaskData
    from ..settings import CalibrationConfig

Row = dict[str, Any]
"""an encoded text: input_ids, attention_mask, token_type_ids if any, calibration_mask if some tokens don't count"""


@dataclass
class RunData:
    """What a source may use of the run: its task and training examples, the data folder, how splits are chosen."""

    task: Task | None = None
    data: TaskData | None = None
    data_dir: Path | None = None
    selection: str = "held_out"


@dataclass
class Texts:
    """Texts of one origin."""

    origin: str
    texts: list[str]
    encode: Callable[[list[int], PreTrainedTokenizerBase], list[Row]] | None = None
    """the task's own encoding of the texts at some positions; None for plain text"""
    notes: list[str] = field(default_factory=list)
    """what the reader of a result should know"""


class Source(ABC):
    """One kind of calibration data."""

    def __init__(self, config: CalibrationConfig) -> None:
        self.config = config

    def check(self) -> None:
        """ConfigError or DataError if the settings can't work, before anything is loaded."""

    @abstractmethod
    def load(self, run: RunData) -> list[Texts]:
        """The texts, one entry per origin; samples are drawn from the origins in equal parts."""


SOURCES: Registry[Source] = Registry("calibration.source", "kasa_corda.calibration.sources")
