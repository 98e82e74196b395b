"""The numbers that the papers, their authors and others have printed: ``published.csv``, one row per number."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import DataError, nearest

TABLE = Path(__file__).with_name("published.csv")
KINDS = ("paper", "authors", "third_party")
UNITS = {"percent": 100, "fraction": 1, "marks": 10, "points": 1}
"""unit of a printed number -> what a score of ours is multiplied by to be in it (marks are 0 to 10)"""
NEEDED = ("paper", "table", "model", "task", "metric", "method", "value")
MEAN = "mean:"
FOREIGN = {"model": ("gemma-2-9b",), "method": ("chatgpt", "sara"), "task": ()}
"""names in published.csv that have no config of ours"""


@dataclass(frozen=True)
class Cell:
    """One printed number. Names are those of our configs where one exists, else the source's own in lower case."""

    paper: str
    """kasa or corda"""
    table: str
    model: str
    task: str
    """'mean:<table>' is a printed average over the tasks of a table"""
    metric: str
    method: str
    parameters: int | None
    """trainable parameters as printed"""
    value: str
    """as printed; empty where the cell exists but its number is not known"""
    std: str
    source: str
    kind: str = "paper"
    """whose number it is: paper, authors (logs, README) or third_party"""
    setting: str = ""
    """what else tells it from other cells of its method, in words, such as 'rank 32' or 'last epoch'"""
    unit: str = "percent"
    """one of ``UNITS``"""
    trained_on: str = ""
    """the task that was trained on, where it is not ``task``"""
    where: str = ""
    """config keys of our counterpart beside model, task and method: 'method.rank=128 calibration.source=nq_open'"""

    @property
    def number(self) -> float | None:
        """In printed units, usually percent."""
        return float(self.value) if self.value else None

    @property
    def decimals(self) -> int:
        """Digits printed after the point."""
        return len(self.value.partition(".")[2])

    @property
    def factor(self) -> int:
        """What our score is multiplied by to be in printed units."""
        return UNITS[self.unit]

    @property
    def is_mean(self) -> bool:
        """Whether it is a printed average."""
        return self.task.startswith(MEAN)

    @property
    def run_task(self) -> str:
        """The task of our runs that have this score."""
        return self.trained_on or self.task

    @property
    def run_metric(self) -> str:
        """The key of the score in best.test of such a run."""
        return f"{self.task}_{self.metric}" if self.trained_on not in ("", self.task) else self.metric

    @property
    def conditions(self) -> dict[str, Any]:
        """``where`` as config key -> value."""
        pairs = (pair.split("=", 1) for pair in self.where.split())
        return {key: _typed(value) for key, value in pairs}

    @property
    def row(self) -> tuple[str, ...]:
        """What the cells of one printed row share."""
        return (self.paper, self.table, self.model, self.method, self.kind, self.setting, self.where)


@dataclass(frozen=True)
class MeanCheck:
    """A printed average beside the one of its own row."""

    cell: Cell
    members: tuple[Cell, ...]
    recomputed: float
    slack: float
    """how far rounding alone can part them"""

    @property
    def consistent(self) -> bool:
        return abs(self.recomputed - float(self.cell.value)) <= self.slack + 1e-9


def read_published(path: Path | None = None) -> list[Cell]:
    """Every row of a CSV with the columns of ``Cell`` (only ``NEEDED`` are required). DataError naming the line."""
    file = Path(path or TABLE)
    try:
        with file.open(encoding="utf-8-sig", newline="") as opened:
            reader = csv.DictReader(opened)
            missing = [name for name in NEEDED if name not in (reader.fieldnames or ())]
            if missing:
                raise DataError(f"{file.name} has no column {', '.join(missing)}; needed are {', '.join(NEEDED)}")
            return [_cell(row, f"{file.name}, line {reader.line_num}") for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{file} can't be read: {error}") from error


def unknown_cells(cells: Iterable[Cell] | None = None) -> list[Cell]:
    """Cells that are known to be printed and whose number was not found."""
    return [cell for cell in _or_ours(cells) if not cell.value]


def members(mean: Cell, cells: Iterable[Cell] | None = None) -> list[Cell]:
    """The cells whose average ``mean`` is, known or not: the other cells of its printed row."""
    return [cell for cell in _or_ours(cells) if cell.row == mean.row and not cell.is_mean]


def mean_checks(cells: Iterable[Cell] | None = None) -> list[MeanCheck]:
    """Every printed average whose members are all known, recomputed."""
    every = _or_ours(cells)
    rows: dict[tuple[str, ...], list[Cell]] = {}
    for cell in every:
        if not cell.is_mean:
            rows.setdefault(cell.row, []).append(cell)
    checks = []
    for cell in every:
        own = rows.get(cell.row, [])
        if cell.is_mean and cell.value and own and all(member.value for member in own):
            numbers = [float(member.value) for member in own]
            slack = 0.5 * 10**-cell.decimals + sum(0.5 * 10**-member.decimals for member in own) / len(own)
            checks.append(MeanCheck(cell, tuple(own), sum(numbers) / len(numbers), slack))
    return checks


def inconsistent_means(cells: Iterable[Cell] | None = None) -> list[MeanCheck]:
    """Printed averages that no rounding of their own row gives."""
    return [check for check in mean_checks(cells) if not check.consistent]


def _or_ours(cells: Iterable[Cell] | None) -> list[Cell]:
    return read_published() if cells is None else list(cells)


def _cell(row: dict[str, Any], place: str) -> Cell:
    texts = {name: (row.get(name) or "").strip() for name in Cell.__dataclass_fields__ if name != "parameters"}
    texts = {name: text for name, text in texts.items() if text or name not in ("kind", "unit")}
    for name in NEEDED[:-1]:
        if not texts[name]:
            raise DataError(f"{place}: {name} is empty")
    for name in ("value", "std"):
        if texts[name] and not _is_number(texts[name]):
            raise DataError(f"{place}: {name}={texts[name]!r} is no number")
    for name, choices in (("kind", KINDS), ("unit", tuple(UNITS))):
        if name in texts and texts[name] not in choices:
            close = nearest(texts[name], choices) or choices
            raise DataError(f"{place}: {name}={texts[name]!r} is none of {', '.join(close)}")
    if bad := [pair for pair in texts["where"].split() if "=" not in pair]:
        raise DataError(f"{place}: where has {bad[0]!r}; write key=value")
    return Cell(parameters=_count((row.get("parameters") or "").strip(), place), **texts)


def _count(text: str, place: str) -> int | None:
    """295104, 295,104 or 0.3M."""
    found = re.fullmatch(r"([0-9.]+)([KMB]?)", text.replace(",", ""))
    if text and (found is None or not _is_number(found[1])):
        raise DataError(f"{place}: parameters={text!r} is no number of parameters such as 295104 or 0.3M")
    return round(float(found[1]) * {"": 1, "K": 1e3, "M": 1e6, "B": 1e9}[found[2]]) if found else None


def _is_number(text: str) -> bool:
    try:
        return float(text) == float(text)
    except ValueError:
        return False


def _typed(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
