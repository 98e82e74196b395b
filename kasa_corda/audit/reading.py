"""What the words beside a printed number say: which metric, how many runs, which epoch, percent or not."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from .printed import Printed, printed
from .sets import EvaluationSet, set_of

if TYPE_CHECKING:
    from ..paper.published import Cell

_KINDS = (
    ("matthews", r"matthews|\bmcc\b"),
    ("macro", r"macro|micro|weighted"),
    ("f1", r"\bf1\b"),
    ("pearson", r"pearson"),
    ("spearman", r"spearman"),
    ("perplexity", r"perplexity|\bppl\b"),
    ("pass@1", r"pass@1\b|pass_at_1\b"),
    ("exact_match", r"(exact|harness)[_ ]match|\bem\b"),
    ("accuracy", r"accuracy|\bacc\b"),
)
SHARES = ("accuracy", "exact_match", "pass@1")
"""kinds that count right answers: k of n"""
MATRIX = ("matthews", "f1")
"""kinds that come from a confusion matrix of two classes"""
CORRELATIONS = ("matthews", "pearson", "spearman")
BOUNDED = (*SHARES, "f1", *CORRELATIONS)
"""kinds that can't exceed 1 (100 in percent)"""
PADDED_FROM = 5
"""scores of a table from which a common last digit 0 is no chance (1 in 100,000)"""

STATED = Path(__file__).with_name("stated_runs.csv")
_WORDS = {"single": 1, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "ten": 10}
_RUNS = re.compile(r"\b(\d+|" + "|".join(_WORDS) + r")[ -](?:run|seed)s?\b|\b(?:run|seed)s\s*=\s*(\d+)\b")
_SAMPLES = re.compile(r"\b(\d+|one|single) (?:sample|generation)s? per (?:task|problem)\b|\bn_samples\s*=\s*(\d+)\b")
_EPOCH = re.compile(r"\bepoch\s*=?\s*(\d+)")


@dataclass(frozen=True)
class Reading:
    """One printed number with what its words say."""

    cell: Cell
    kind: str
    """a key of ``_KINDS``, or '' for a metric that no check knows"""
    printed: Printed
    set: EvaluationSet | None
    runs: int | None
    """runs times samples that the number is an average of; None: not stated"""
    role: str
    """best, last or '' (neither is said)"""
    epoch: str
    """number of the epoch, '' where it is not said"""

    @property
    def row(self) -> tuple[str, ...]:
        """What the numbers of one row of a table have in common."""
        return (self.cell.paper, self.cell.kind, self.cell.table, self.cell.model, self.cell.method)

    @property
    def place(self) -> tuple[str, ...]:
        """The row and what else its numbers have in common."""
        return (*self.row, self.cell.setting, self.cell.where)


def read(cells: Iterable[Cell], sets: dict[str, EvaluationSet]) -> list[Reading]:
    """Every cell that has a number; those whose text is not one are left out (``check_texts`` names them)."""
    cells = [cell for cell in cells if is_number(cell.value)]
    units, padding = units_of(cells), padded_tables(cells)
    return [
        Reading(
            cell,
            kind := kind_of(cell.metric),
            printed(
                cell.value,
                units[table_of(cell)] if kind in BOUNDED or is_mean(cell) else 1,
                padded=int(table_of(cell) in padding and not is_mean(cell)),
            ),
            set_of(cell.task, sets),
            runs_of(cell, kind),
            role_of(cell),
            epoch.group(1) if (epoch := _EPOCH.search(_said(cell))) else "",
        )
        for cell in cells
    ]


def is_number(text: str) -> bool:
    return bool(re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", text))


def kind_of(metric: str) -> str:
    """The kind of metric that a name stands for."""
    return next((kind for kind, pattern in _KINDS if re.search(pattern, metric.lower().replace("_", " "))), "")


@cache
def stated_runs() -> dict[tuple[str, str], int]:
    """Runs behind the tables whose captions or papers state them (``stated_runs.csv``): (paper, table) -> runs."""
    with STATED.open(encoding="utf-8", newline="") as file:
        return {(row["paper"], row["table"]): int(row["runs"]) for row in csv.DictReader(file)}


def runs_of(cell: Cell, kind: str) -> int | None:
    """Of how many runs (for code: times samples per problem) the number is the mean, where that is said.

    A code score of one run may still average several samples, so for it the samples must be said as well.
    """
    text = _said(cell)
    runs, samples = _number(_RUNS.search(text)), _number(_SAMPLES.search(text))
    if runs is None:
        runs = stated_runs().get((cell.paper, cell.table))
    if kind == "pass@1":
        return None if samples is None else samples * (runs or 1)
    return runs


def role_of(cell: Cell) -> str:
    """Which epoch: best, last, or unsaid. A best epoch with an exception is neither."""
    text = _said(cell)
    if re.search(r"exclu|without", text):
        return ""
    words = [word for word in ("best", "last", "final") if re.search(rf"\b{word}\b", text)]
    return {"final": "last"}.get(words[0], words[0]) if len(words) == 1 else ""


def is_mean(cell: Cell) -> bool:
    """Whether the number is an average over tasks."""
    return bool(re.match(r"mean:|mean\b|average|avg\b", cell.task.lower()))


def table_of(cell: Cell) -> tuple[str, str, str]:
    return cell.paper, cell.kind, cell.table


def units_of(cells: Sequence[Cell]) -> dict[tuple[str, str, str], int]:
    """Percent (100) or fractions (1), one for each table.

    Percent is what ``Cell.unit`` says where a table doesn't, so a table of which no score exceeds 1 and no metric is
    named % holds fractions too.
    """
    fraction: dict[tuple[str, str, str], bool] = {}
    for cell in cells:
        if kind_of(cell.metric) in BOUNDED or is_mean(cell):
            small = abs(float(cell.value)) <= 1 and not re.search(r"%|x ?100|percent", cell.metric)
            small = small or cell.unit == "fraction"
            fraction[table_of(cell)] = fraction.get(table_of(cell), True) and small
    return {table_of(cell): 1 if fraction.get(table_of(cell)) else 100 for cell in cells}


def padded_tables(cells: Iterable[Cell]) -> set[tuple[str, str, str]]:
    """Tables whose scores all end in 0 after the point: copied with a digit more than their source had."""
    ends: dict[tuple[str, str, str], list[bool]] = {}
    for cell in cells:
        if not is_mean(cell) and "." in cell.value:
            ends.setdefault(table_of(cell), []).append(cell.value.endswith("0"))
    return {table for table, zeros in ends.items() if len(zeros) >= PADDED_FROM and all(zeros)}


def _said(cell: Cell) -> str:
    return " ; ".join((cell.table, cell.setting, cell.metric)).lower()


def _number(match: re.Match[str] | None) -> int | None:
    word = next((group for group in match.groups() if group), None) if match else None
    return None if word is None else _WORDS.get(word) or int(word)
