"""Everything a report is about, gathered once: runs, printed numbers, claims, verdicts, and what the audit found."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import DataError
from ..records import MEASURED, RunRecord, read_runs
from .settings import Place, places

if TYPE_CHECKING:
    from ...paper.claims import Claim
    from ...paper.published import Cell
    from ...verdicts.verdict import CellResult, ClaimVerdict

FORMS = ("pocket", "paper")
RATES = ("paper", "tuned")


@dataclass
class Material:
    """What the chapters are written from. ``verdicts`` and ``results`` are by learning rate: 'paper' and 'tuned'."""

    records: list[RunRecord]
    form: str
    claims: list[Claim] = field(default_factory=list)
    cells: list[Cell] = field(default_factory=list)
    verdicts: dict[str, list[ClaimVerdict]] = field(default_factory=dict)
    results: dict[str, list[CellResult]] = field(default_factory=dict)
    findings: list[Any] = field(default_factory=list)
    suite: str | None = None
    measured: bool = True
    """whether the records have their time and memory"""

    @cached_property
    def places(self) -> list[Place]:
        return places(self.records)

    @cached_property
    def by_id(self) -> dict[str, RunRecord]:
        """run id -> its finished record"""
        return {record.run_id: record for record in self.records if record.state == "finished"}

    def counts(self) -> dict[str, int]:
        """How many runs are in which state, finished ones first."""
        found: dict[str, int] = {}
        for record in sorted(self.records, key=lambda r: (r.state != "finished", r.state)):
            found[record.state] = found.get(record.state, 0) + 1
        return found


def gather(roots: Iterable[str | Path], form: str, suite: str | None = None, measured: bool = True) -> Material:
    """Read the runs, with or without what was measured of them, and judge them; DataError if there is none."""
    from ...audit import audit
    from ...paper.claims import read_claims
    from ...paper.published import read_published
    from ...verdicts import beside, judge

    roots = list(roots)
    records = read_runs(roots)
    if not records:
        raise DataError(f"no run directory below {', '.join(map(str, roots))}; give the folder that run.py writes to")
    if not measured:
        records = [_unmeasured(record) for record in records]
    cells, claims = read_published(), read_claims()
    if suite is not None:
        claims = _of_suite(claims, suite)
    return Material(
        records,
        form,
        claims,
        cells,
        {lr: judge(claims, records, form=form, lr=lr) for lr in RATES},
        {lr: beside(cells, records, lr) for lr in RATES},
        audit(cells),
        suite,
        measured,
    )


def _unmeasured(record: RunRecord) -> RunRecord:
    return replace(record, result={key: value for key, value in record.result.items() if key not in MEASURED})


def _of_suite(claims: Sequence[Claim], name: str) -> list[Claim]:
    """The claims that the cells of a suite decide; all of them if it names none."""
    from ...cli.suites import read_suite

    wanted = set(getattr(read_suite(name), "claims", ()) or ())
    return [claim for claim in claims if claim.id in wanted] if wanted else list(claims)


Writer = Callable[[Material], Any]
