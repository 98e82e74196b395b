"""The papers' settings: ``hyperparameters.csv``, a row per setting and source, and how a run departs from one."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DataError, nearest

if TYPE_CHECKING:
    from .published import Cell

TABLE = Path(__file__).with_name("hyperparameters.csv")
KINDS = ("log", "script", "paper", "third_party")
PREFERRED = {
    "paper": ("log", "paper", "script"),
    "authors": ("log", "script", "paper"),
    "third_party": ("third_party",),
}
"""kind of a printed number -> where its settings are taken from, best first"""


@dataclass(frozen=True)
class Hyperparameters:
    """One published setting. None is 'not stated'. Names are our config names."""

    paper: str
    model: str
    task: str
    """what is trained on"""
    method: str
    kind: str
    """where it stands: log, script, paper or third_party"""
    source: str
    rank: int | None = None
    alpha: float | None = None
    dropout: float | None = None
    target_modules: str | None = None
    epochs: float | None = None
    max_steps: int | None = None
    train_examples: int | None = None
    """the first so many"""
    batch_size: int | None = None
    """examples per optimizer step"""
    learning_rate: float | None = None
    head_learning_rate: float | None = None
    warmup: float | None = None
    """below 1 a share of all steps, else steps"""
    weight_decay: float | None = None
    schedule: str | None = None
    max_length: int | None = None
    beta: float | None = None
    gamma: float | None = None
    variant: str | None = None
    calibration: str | None = None
    calibration_samples: int | None = None
    calibration_length: int | None = None
    seed: int | None = None
    seeds: int | None = None
    """how many runs the printed number is of"""
    selection: str | None = None
    """'paper': the best epoch on the evaluation set itself"""

    @property
    def settings(self) -> dict[str, Any]:
        """What is stated, as config key -> value."""
        return {key: getattr(self, name) for name, key in KEYS.items() if getattr(self, name) is not None}


KEYS = {
    "rank": "method.rank",
    "alpha": "method.alpha",
    "dropout": "method.dropout",
    "target_modules": "method.target_modules",
    "variant": "method.variant",
    "beta": "method.beta",
    "gamma": "method.gamma",
    "max_steps": "trainer.max_steps",
    "epochs": "trainer.epochs",
    "train_examples": "task.first",
    "batch_size": "trainer.batch_size",
    "learning_rate": "trainer.learning_rate",
    "head_learning_rate": "trainer.head_learning_rate",
    "warmup": "trainer.warmup",
    "weight_decay": "trainer.weight_decay",
    "schedule": "trainer.schedule",
    "max_length": "task.max_length",
    "calibration": "calibration.source",
    "calibration_samples": "calibration.samples",
    "calibration_length": "calibration.length",
    "selection": "selection",
}
NAMES = {key: name for name, key in KEYS.items()}
_TYPES = {
    **dict.fromkeys(("rank", "max_steps", "train_examples", "batch_size", "max_length"), int),
    **dict.fromkeys(("calibration_samples", "calibration_length", "seed", "seeds"), int),
    **dict.fromkeys(("alpha", "dropout", "epochs", "learning_rate", "head_learning_rate"), float),
    **dict.fromkeys(("warmup", "weight_decay", "beta", "gamma"), float),
}


def read_hyperparameters(path: Path | None = None) -> list[Hyperparameters]:
    """Every row, in the file's order. DataError naming line and column."""
    return list(_shipped()) if path is None else _read(Path(path))


def lookup(
    paper: str, model: str, task: str, method: str, kind: str = "paper", rows: Iterable[Hyperparameters] | None = None
) -> Hyperparameters | None:
    """The published setting behind a number whose kind is paper, authors or third_party; None if none is known.

    What the best source leaves open is taken from the next, which ``source`` then also names.
    """
    every = read_hyperparameters() if rows is None else rows
    found = [
        row
        for wanted in PREFERRED.get(kind, PREFERRED["paper"])
        for row in every
        if (row.paper, row.model, row.task, row.method, row.kind) == (paper, model, task, method, wanted)
    ]
    return _merged(found) if found else None


def hyperparameters_of(cell: Cell, task: str | None = None) -> Hyperparameters | None:
    """The published setting of one printed number, with what the cell itself says (its rank, its calibration).

    ``task`` is what was trained on, for a printed mean over tasks that are trained on one by one.
    """
    found = lookup(cell.paper, cell.model, task or cell.run_task, cell.method, cell.kind)
    if found is None:
        return None
    own = {NAMES[key]: value for key, value in cell.conditions.items() if key in NAMES}
    return replace(found, **own)


def published_learning_rate(cell: Cell, task: str | None = None) -> float | None:
    """The learning rate behind a printed number; None if it is not known."""
    found = hyperparameters_of(cell, task)
    return found.learning_rate if found else None


def _merged(rows: list[Hyperparameters]) -> Hyperparameters:
    first, *others = rows
    for other in others:
        missing = {
            name: getattr(other, name)
            for name in (f.name for f in fields(Hyperparameters))
            if getattr(first, name) is None and getattr(other, name) is not None
        }
        if missing:
            first = replace(first, **missing, source=f"{first.source}; {', '.join(missing)}: {other.source}")
    return first


@cache
def _shipped() -> tuple[Hyperparameters, ...]:
    return tuple(_read(TABLE))


def _read(path: Path) -> list[Hyperparameters]:
    known = [field.name for field in fields(Hyperparameters)]
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        for name in reader.fieldnames or ():
            if name not in known:
                close = nearest(name, known)
                raise DataError(f"{path.name} has an unknown column {name}; the nearest is {', '.join(close) or known}")
        return [_row(line, f"{path.name}, line {reader.line_num}") for line in reader]


def _row(line: Mapping[str, str | None], place: str) -> Hyperparameters:
    values = {name: _value(name, (text or "").strip(), place) for name, text in line.items()}
    for name in ("paper", "model", "task", "method", "source"):
        if not values.get(name):
            raise DataError(f"{place}: {name} is empty")
    if values.get("kind") not in KINDS:
        raise DataError(f"{place}: kind={values.get('kind')!r} is none of {', '.join(KINDS)}")
    return Hyperparameters(**values)


def _value(name: str, text: str, place: str) -> Any:
    if not text:
        return None
    try:
        return _TYPES.get(name, str)(text)
    except ValueError as error:
        raise DataError(f"{place}: {name}={text!r} is no number") from error


WORDS = {
    "rank": "rank {ours} instead of {theirs}",
    "alpha": "alpha {ours} instead of {theirs}",
    "dropout": "dropout {ours} on the adapter's input instead of {theirs}",
    "target_modules": "adapted layers {ours} instead of {theirs}",
    "variant": "variant {ours} instead of {theirs}",
    "beta": "beta {ours} instead of {theirs}",
    "gamma": "gamma {ours} instead of {theirs}",
    "batch_size": "batches of {ours} instead of {theirs}",
    "learning_rate": "learning rate {ours} instead of {theirs}",
    "head_learning_rate": "learning rate of the head {ours} instead of {theirs}",
    "warmup": "warm-up {ours} instead of {theirs}",
    "weight_decay": "weight decay {ours} instead of {theirs}",
    "schedule": "{ours} schedule instead of {theirs}",
    "max_length": "inputs of at most {ours} tokens instead of {theirs}",
    "calibration": "calibrated on {ours} instead of {theirs}",
    "calibration_samples": "{ours} calibration samples instead of {theirs}",
    "calibration_length": "calibration samples of {ours} tokens instead of {theirs}",
}


def deviations(settings: Mapping[str, Any], published: Hyperparameters | None) -> tuple[str, ...]:
    """How a run departs from a published setting, in plain words; what either side leaves open is not compared.

    ``settings``: the run's flattened config (``RunRecord.settings``); with ``selection`` and ``seed`` if wanted.
    """
    if published is None:
        return ()
    found = [
        f"{ours} instead of {theirs}"
        for ours, theirs in ((settings.get("model.name"), published.model), (settings.get("task.name"), published.task))
        if ours and ours != theirs
    ]
    found += _length_of_training(settings, published)
    uncalibrated = settings.get("method.decomposition") == "plain" or settings.get("method.exponent") == 0
    for name, words in WORDS.items():
        theirs, ours = getattr(published, name), settings.get(KEYS[name])
        if name == "head_learning_rate" and ours is None:
            ours = settings.get("trainer.learning_rate")
        if theirs is None or ours is None or (uncalibrated and name.startswith("calibration")):
            continue
        if not _same(ours, theirs):
            found.append(words.format(ours=_shown(ours), theirs=_shown(theirs)))
    if published.selection == "paper" and settings.get("selection") == "held_out":
        found.append("epoch chosen on held-out training examples instead of on the evaluation set")
    return tuple(found)


def _length_of_training(settings: Mapping[str, Any], published: Hyperparameters) -> list[str]:
    found = []
    theirs = "" if published.epochs is None else _epochs(published.epochs)
    if published.max_steps is not None:
        theirs = f"{published.max_steps:,} steps"
    steps, epochs, cap = (settings.get(f"trainer.{name}") for name in ("max_steps", "epochs", "steps_cap"))
    if theirs and steps is not None:
        if steps != published.max_steps:
            found.append(f"trained {steps:,} steps instead of {theirs}")
    elif theirs and cap is not None:
        found.append(f"trained at most {cap:,} steps instead of {theirs}")
    elif published.epochs is not None and epochs is not None and not _same(epochs, published.epochs):
        found.append(f"trained {_epochs(epochs)} instead of {theirs}")
    if published.train_examples is not None and "task.name" in settings:
        ours = settings.get("task.first") or settings.get("task.train_examples")
        if ours is None:
            found.append(f"trained on all examples instead of the first {published.train_examples:,}")
        elif ours != published.train_examples:
            found.append(f"trained on {ours:,} examples instead of the first {published.train_examples:,}")
    return found


def _epochs(number: float) -> str:
    return f"{number:g} epoch{'' if number == 1 else 's'}"


def _same(ours: Any, theirs: Any) -> bool:
    try:
        return abs(float(ours) - float(theirs)) <= 1e-6 * abs(float(theirs))
    except (TypeError, ValueError):
        return str(ours) == str(theirs)


def _shown(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
