"""The config group ``calibration``: which texts the covariances are made of, and how they are pushed through."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Optional

from ..config.schema import ModelConfig, option
from ..errors import ConfigError, DataError

if TYPE_CHECKING:
    from .sources import Source

CHARACTERS_PER_TOKEN = 10
"""characters cut out for each token wanted: 20,480 for 2048, as the authors' code does"""


@dataclass
class CalibrationConfig:
    """Calibration of the methods that need one (CorDA); others ignore it. Normalisation and divisor: method.*"""

    source: str = option("train", "where the texts come from: the run's own training set, named sets, or a file")
    reading: str = option(
        "single",
        "single: each sample is one text; windows: texts joined by blank lines, a sample starts at a random character",
        choices=("single", "windows"),
    )
    samples: int = option(1024, "number of samples N (fewer if the source has fewer texts)", at_least=1)
    length: int = option(256, "tokens per sample L: exactly for windows, at most for single texts", at_least=2)
    seed: int = option(233, "seed of the choice of samples, apart from the run's seed; 233 is the authors'", at_least=0)
    candidates: int = option(
        1,
        "CorDA++, experimental: draw this many sample sets, each layer keeps the covariance with the lowest score",
        at_least=1,
    )
    tokens: str = option(
        "all", "which tokens count: all, or only the response of a task that marks it", choices=("all", "response")
    )
    first_text: bool = option(False, "windows over a task with text pairs: only the first text of each (paper: GLUE)")
    tasks: list[str] = option([], "source=tasks: names of the tasks whose training texts are mixed in equal parts")
    path: Optional[str] = option(None, "source=file: a text file (one text per line) or JSONL file")
    field: str = option("text", "source=file: the key of the text in each line of a JSONL file")
    mode: str = option(
        "auto",
        "streamed: block by block, memory independent of depth; whole: all at once; auto: streamed where possible",
        choices=("auto", "streamed", "whole"),
    )
    batch_size: int = option(8, "samples per forward pass; does not change the result", at_least=1)
    offload: str = option(
        "auto",
        "hidden states between blocks in CPU memory: auto when they don't fit",
        choices=("auto", "always", "never"),
    )
    precision: str = option(
        "auto",
        "products of the covariance: auto in the dtype of the activations (exact for 16-bit ones); sums in float32, for"
        " float64 in float64",
        choices=("auto", "float32", "tf32", "bfloat16", "float64"),
    )


def check_calibration(config: CalibrationConfig, model: ModelConfig) -> Source:
    """The source of a config; ConfigError or DataError if it can't work, found without reading data or model."""
    from .sources import SOURCES

    if config.length > model.max_positions:
        raise ConfigError(
            f"calibration.length={config.length} is above the {model.max_positions} positions of model={model.name};"
            f" use calibration.length={model.max_positions} or less"
        )

    source = SOURCES[config.source](config)
    source.check()
    if config.tokens == "response" and (config.reading != "single" or config.source not in ("train", "tasks")):
        raise ConfigError(
            "calibration.tokens=response needs a task's own examples: calibration.source=train (or tasks) and"
            " calibration.reading=single"
        )
    return source


def check_window(config: CalibrationConfig, characters: int, origin: str) -> None:
    """DataError if joined texts of this many characters are too short for one window."""
    needed = CHARACTERS_PER_TOKEN * config.length
    if characters < needed:
        longest = characters // CHARACTERS_PER_TOKEN
        raise DataError(
            f"the calibration texts from {origin} hold {characters:,} characters, but one window of"
            f" calibration.length={config.length} tokens is cut from {needed:,}; use calibration.length={longest} or"
            " less, calibration.reading=single, or a larger source"
        )
