"""Verdicts: what the runs say of every claim and every printed number (docs/statistics.md)."""

from __future__ import annotations

from .beside import beside
from .judge import judge
from .verdict import STATES, CellResult, ClaimVerdict, PartVerdict

__all__ = ["STATES", "CellResult", "ClaimVerdict", "PartVerdict", "beside", "judge"]
