"""What the audit of published numbers says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..paper.published import Cell

SEVERITIES = {
    "impossible": "no evaluation of the stated kind gives this number",
    "inconsistent": "two printed things contradict each other",
    "unstated": "possible only as an average of several runs or samples, or on other data, which is not stated",
    "notice": "worth knowing; nothing contradicts",
}
"""What a finding can be -> what that means; worst first."""


@dataclass(frozen=True)
class Finding:
    """One thing found, with the printed numbers that it is about."""

    severity: str
    """a key of ``SEVERITIES``"""
    check: str
    """the rule that found it, such as 'accuracy = k/n'"""
    cells: tuple[Cell, ...]
    sentence: str
    """in plain words, with the arithmetic and the nearest possible value"""


def name_of(cell: Cell) -> str:
    """A printed number in words: where it stands and what it is of."""
    what = f"{cell.method} on {cell.model} {cell.task} ({cell.metric})"
    return f"{cell.paper}, {cell.table}: {what}" + (f" [{cell.setting}]" if cell.setting else "")


def by_severity(findings: list[Finding]) -> list[Finding]:
    """Worst first, otherwise in the order found."""
    order = list(SEVERITIES)
    return sorted(findings, key=lambda finding: order.index(finding.severity))
