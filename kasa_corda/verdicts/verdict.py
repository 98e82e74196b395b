"""What was found of a claim, of its parts, and of one printed number."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..paper.claims import Claim, Part
    from ..paper.published import Cell

STATES = ("reproduced", "direction", "not_reproduced", "undecidable", "missing")
FORMS = ("paper", "pocket")
RATES = ("paper", "tuned")


@dataclass(frozen=True)
class PartVerdict:
    """One comparison. Differences are in the metric's unit, positive where ``ours`` is better; of at_most and at_least
    they are what is left to the bound. How each number is computed: docs/statistics.md."""

    part: Part
    state: str
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    """95 % interval of the difference, over seeds and examples; of seeds alone where ``examples`` is None"""
    p: float | None = None
    """two-sided, of difference = margin: paired t-test over seeds, stratified over tasks"""
    p_holm: float | None = None
    """corrected over the parts of the claim's family"""
    effect: float | None = None
    """mean of the paired differences / their standard deviation"""
    seeds: int = 0
    seeds_needed: int | None = None
    """that would decide it with 80 % power"""
    ours_runs: tuple[str, ...] = ()
    reference_runs: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    threshold: float = 0.0
    """what ``difference`` is tested against: the margin, turned round for not_worse"""
    published: float | None = None
    """the published difference, in the metric's unit"""
    p_wanted: float | None = None
    """two-sided, of difference = half of the published one; corrected like ``p_holm``"""
    p_permutation: float | None = None
    """sign flips over seeds and tasks, beside ``p``; can't be below 2 / 2^(seeds x tasks)"""
    bootstrap_low: float | None = None
    bootstrap_high: float | None = None
    """plain two-level percentile bootstrap, beside ``low`` and ``high``: too narrow for few seeds"""
    std: float | None = None
    """of the per-seed differences"""
    examples: int | None = None
    """evaluated examples that the interval looked at; None where predictions were not kept"""
    ours: float | None = None
    reference: float | None = None
    """means of the two sides"""
    tasks: tuple[tuple[str, float], ...] = ()
    """difference on each task"""
    metric: str = ""
    """what was compared; of several tasks the first one's"""


@dataclass(frozen=True)
class ClaimVerdict:
    """``lr``: 'paper' or 'tuned'; ``sentence``: the verdict in words, with its numbers."""

    claim: Claim
    form: str
    lr: str
    state: str
    parts: tuple[PartVerdict, ...]
    sentence: str


@dataclass(frozen=True)
class CellResult:
    """One printed number beside ours, in printed units."""

    cell: Cell
    lr: str
    mean: float | None = None
    std: float | None = None
    low: float | None = None
    high: float | None = None
    """95 % interval of our mean, over seeds"""
    n: int = 0
    difference: float | None = None
    """ours - published"""
    inside: bool | None = None
    """whether the printed number is one that a further run of ours could give (``run_low``, ``run_high``), its rounding
    allowed for"""
    run_ids: tuple[str, ...] = ()
    deviations: tuple[str, ...] = field(default=())
    """how our setting differs from the published one, in plain words"""
    run_low: float | None = None
    run_high: float | None = None
    """95 % prediction interval of a further run: printed numbers without seeds are one run, or we can't tell"""
    used_for_verdict: bool = False
    """whether verdicts use this number, where several sources print one"""
    notes: tuple[str, ...] = ()
    learning_rate: float | None = None
    metric: str | None = None
    """the key of best.test that was compared"""
