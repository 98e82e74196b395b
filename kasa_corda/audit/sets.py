"""Evaluation sets: how many examples a score is over, and how many of each class (``evaluation_sets.csv``)."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ..errors import DataError

TABLE = Path(__file__).with_name("evaluation_sets.csv")


@dataclass(frozen=True)
class EvaluationSet:
    """One labelled set that scores are printed on. Class counts are known for tasks of two classes only."""

    task: str
    size: int
    metrics: tuple[str, ...] = ()
    """kinds of metric that are printed on it, the usual one first"""
    negative: int | None = None
    positive: int | None = None
    """examples of class 0 and of class 1 (the class that F1 is of)"""
    source: str = ""
    aliases: tuple[str, ...] = ()
    """further names in the shortened form of ``short``"""


@cache
def read_sets(path: Path = TABLE) -> dict[str, EvaluationSet]:
    """Shortened name -> set; DataError if the file can't be read or its counts don't add up."""
    found: dict[str, EvaluationSet] = {}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            sets = [_set(row) for row in csv.DictReader(file)]
    except (OSError, KeyError, ValueError) as error:
        raise DataError(f"the evaluation sets {path} can't be read ({type(error).__name__}: {error})") from None
    for one in sets:
        if one.positive is not None and one.negative is not None and one.positive + one.negative != one.size:
            raise DataError(f"{path}: the classes of {one.task} ({one.negative} + {one.positive}) are not {one.size}")
        for name in (short(one.task), *one.aliases):
            found.setdefault(name, one)
    return found


def set_of(task: str, sets: dict[str, EvaluationSet]) -> EvaluationSet | None:
    """The evaluation set of a task, by our name or as papers write it; None if it is not known."""
    return sets.get(short(task))


def short(task: str) -> str:
    """'glue/sst2', 'SST-2' and 'sst 2' are one task: the last part of the name, its letters and digits alone."""
    return re.sub(r"[^a-z0-9]", "", task.lower().rpartition("/")[2])


def _set(row: dict[str, str]) -> EvaluationSet:
    negative, positive = (int(row[key]) if row.get(key) else None for key in ("negative", "positive"))
    return EvaluationSet(
        row["task"],
        int(row["size"]),
        tuple(row["metrics"].split()),
        negative,
        positive,
        row.get("source") or "",
        tuple((row.get("aliases") or "").split()),
    )
