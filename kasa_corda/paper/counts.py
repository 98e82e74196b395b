"""Published and computed numbers of trainable parameters, and what this project trains in the same settings."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import yaml
from omegaconf import OmegaConf

from ..cli.compose import composed
from ..cli.explain import CONFIGS
from ..config import MethodConfig, RunConfig
from ..config.validate import validate
from ..methods import METHODS
from ..models.families import ARCHITECTURES

TABLE = Path(__file__).with_name("parameter_counts.csv")


@dataclass(frozen=True)
class Row:
    """One line of ``parameter_counts.csv``."""

    model: str
    """name of a config in ``configs/model``"""
    method: str
    setting: str
    """options of the method as on the command line"""
    published: int
    """the number as its source gives it, rounded where that rounds"""
    count: int | None
    """the exact number that this project must train; None where the method refuses the model"""
    with_head: bool
    """whether the task head (two labels) is counted; a language model has none"""
    source: str
    explanation: str
    """why ``count`` is not ``published``; empty where it is"""
    ours: int | None = None
    """what this project trains; None for a method that is not registered or refuses the model"""


def rows() -> list[Row]:
    """The whole table, nothing counted."""
    with TABLE.open(encoding="utf-8", newline="") as file:
        return [
            Row(
                line["model"],
                line["method"],
                line["options"],
                int(line["published"]),
                int(line["count"]) if line["count"] else None,
                line["head"] == "yes",
                line["source"],
                line["explanation"],
            )
            for line in csv.DictReader(file)
        ]


def compared() -> Iterator[Row]:
    """The table with ``ours``, counted as a dry run counts."""
    known = METHODS.names()
    for row in rows():
        yield replace(row, ours=trained(row)) if row.method in known and row.count is not None else row


def trained(row: Row) -> int:
    """What this project trains in the setting of a row."""
    counts = counts_of(row.model, row.method, row.setting)
    return counts["trainable"] if row.with_head else counts["adapter"]


@cache
def counts_of(model: str, method: str, setting: str) -> dict[str, int]:
    """``count_parameters`` of one setting on the shapes of one model."""
    from ..plan import counted, planned_steps

    config = replace(on_model(model), method=configured(method, setting))
    validate(config)
    return counted(config, planned_steps(config)[1] or 0)[1]


@cache
def on_model(model: str) -> RunConfig:
    """A run of this model: two labels for an encoder, a language model otherwise."""
    architecture = yaml.safe_load((CONFIGS / "model" / f"{model}.yaml").read_text(encoding="utf-8"))["architecture"]
    task = "gsm8k" if ARCHITECTURES[architecture].kind == "decoder" else "glue/sst2"
    return composed([f"model={model}", f"task={task}", "method=lora", "model.dtype=float32"])


def configured(method: str, setting: str) -> MethodConfig:
    """The options of ``configs/method/METHOD.yaml`` with those of a setting on top."""
    file = yaml.safe_load((CONFIGS / "method" / f"{method}.yaml").read_text(encoding="utf-8"))
    shipped = {key: value for key, value in file.items() if key != "defaults"}
    own = OmegaConf.from_dotlist([option.removeprefix("method.") for option in setting.split()])
    merged = OmegaConf.merge(OmegaConf.structured(METHODS[method].Config), shipped, own)
    return OmegaConf.to_object(merged)  # type: ignore[return-value]
