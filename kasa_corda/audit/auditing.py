"""The whole audit of a list of printed numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .averages import check_averages, check_epochs, gaps, inputs_of
from .finding import Finding, by_severity
from .matrices import check_matrices
from .parameters import FORMS, check_parameters
from .ranges import check_ranges, check_texts
from .reading import MATRIX, SHARES, Reading, is_mean, is_number, read
from .sets import EvaluationSet, read_sets
from .shares import can_fail, check_shares
from .spreads import check_spreads

if TYPE_CHECKING:
    from ..paper.published import Cell

Check = Callable[[Sequence[Reading]], Iterator[Finding]]
CHECKS: tuple[Check, ...] = (
    check_ranges,
    check_shares,
    check_matrices,
    check_spreads,
    check_parameters,
)


@dataclass(frozen=True)
class Coverage:
    """What the audit could look at. A check is decisive on a number if some other number printed so is impossible."""

    cells: int
    numbers: int
    """cells whose value is known and a number"""
    shares: int
    """share of right answers on a set of known size"""
    shares_decisive: int
    matrices: int
    """Matthews' coefficients and F1 on a set of known class counts"""
    spreads: int
    """means of shares printed with a standard deviation"""
    averages: int
    """averages over tasks whose scores are printed beside them"""
    parameters: int
    """counts of a method and model whose shape is known"""


def audit(cells: Iterable[Cell], sets: dict[str, EvaluationSet] | None = None) -> list[Finding]:
    """Everything found in printed numbers, worst first. ``sets``: the evaluation sets, shortened name -> set.

    No number is looked up: every check works from the printed text, the set's size and class counts, and the model's
    shape, and a paper that prints possible numbers only gets no finding but notices.
    """
    cells = list(cells)
    readings = read(cells, read_sets() if sets is None else sets)
    findings = [finding for check in CHECKS for finding in check(readings)]
    findings += check_averages(readings, gaps(cells))
    findings += check_epochs(readings, findings)
    findings += check_texts(cells)
    return by_severity(findings)


def coverage(cells: Iterable[Cell], sets: dict[str, EvaluationSet] | None = None) -> Coverage:
    """How many of these numbers each check sees."""
    cells = list(cells)
    readings = read(cells, read_sets() if sets is None else sets)
    shares = [r for r in readings if r.kind in SHARES and r.set]
    rows: dict[tuple[str, ...], list[Reading]] = {}
    missing = gaps(cells)
    for reading in readings:
        rows.setdefault(reading.row, []).append(reading)
    return Coverage(
        cells=len(cells),
        numbers=len(readings),
        shares=len(shares),
        shares_decisive=sum(can_fail(r.printed, r.set.size * (r.runs or 1)) for r in shares if r.set),
        matrices=sum(r.kind in MATRIX and r.set is not None and r.set.positive is not None for r in readings),
        spreads=sum(is_number(r.cell.std) for r in shares),
        averages=sum(bool(inputs_of(r, rows[r.row])) for r in readings if is_mean(r.cell) and r.place not in missing),
        parameters=sum(r.cell.parameters is not None and r.cell.method in FORMS for r in readings),
    )
