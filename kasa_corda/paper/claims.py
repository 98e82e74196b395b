"""The papers' claims as data: a sentence, the runs it is about, the comparison that decides it (``claims.yaml``)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

KINDS = ("above", "not_worse", "at_most", "at_least")
FORMS = ("paper", "pocket")


@dataclass(frozen=True)
class Selector:
    """Which runs stand on one side of a comparison."""

    name: str
    """as shown in reports, such as 'KaSA without truncation'"""
    where: dict[str, Any] = field(default_factory=dict)
    """config key -> value, list of values, or condition ('> 0', '!= none'); ``method`` is method.name. None: the key is
    null or not there"""
    key: str = ""
    """its name in claims.yaml, such as kasa_no_truncation"""


@dataclass(frozen=True)
class Part:
    """One comparison. above: ours - reference > margin; not_worse: ours >= reference - margin; at_most, at_least: a
    value of ``ours`` alone against ``margin``. Differences are turned where lower is better."""

    kind: str
    ours: Selector
    reference: Selector | None
    model: str
    tasks: tuple[str, ...]
    """several: their mean is compared"""
    metric: str | None = None
    """a key of best.test, or a dotted path in result.json; None is each task's own"""
    margin: float = 0.0
    """in the metric's unit (fractions, not percent)"""
    where: dict[str, Any] = field(default_factory=dict)
    """conditions on both sides, as in ``Selector.where``"""
    published: tuple[float | None, float | None] = (None, None)
    """ours and reference as printed, in printed units"""
    paper_learning_rate: float | dict[str, float] | None = None
    """the rate published for it; or one per method, per task, and '*' for all others. See ``learning_rate``"""

    @property
    def higher_is_better(self) -> bool:
        """False for perplexities, losses, times and memory. For ``metric`` None, the tasks' own metrics: True."""
        from ..evaluation.units import higher_is_better

        metric = self.metric or ""
        return not metric.startswith(("loss.", "seconds.", "peak_memory_bytes.")) and higher_is_better(metric)

    def learning_rate(self, selector: Selector, task: str) -> float | None:
        """The published rate of one side on one task: the method's own, else the task's, else the general one."""
        rates = self.paper_learning_rate
        if not isinstance(rates, dict):
            return rates
        keys = (selector.name, selector.key, str(selector.where.get("method")), task, "*")
        return next((rates[key] for key in keys if key in rates), None)


@dataclass(frozen=True)
class Claim:
    """A sentence of a paper. It holds if all parts do (or ``needed`` of them)."""

    id: str
    """such as kasa.glue_roberta_base"""
    paper: str
    sentence: str
    source: str
    """table or section, and whether it was read or is second-hand"""
    parts: tuple[Part, ...]
    """at the paper's scale"""
    pocket: tuple[Part, ...] = ()
    """the same claim on small models and real data"""
    no_pocket: str = ""
    """why it has no pocket form"""
    no_parts: str = ""
    """why no run can decide it, and what does"""
    needed: int | None = None
    """how many parts must hold; None is all"""

    def form(self, name: str) -> tuple[Part, ...]:
        """The parts of 'paper' or 'pocket'."""
        return self.parts if name == "paper" else self.pocket

    @property
    def selectors(self) -> dict[str, Selector]:
        """Everything its parts compare, by key."""
        sides = (side for part in (*self.parts, *self.pocket) for side in (part.ours, part.reference))
        return {side.key: side for side in sides if side is not None}


def read_claims(path: Any = None) -> list[Claim]:
    """All claims, checked. ConfigError, naming claim and key, if the file is wrong."""
    from ._claims_file import read

    return read(path)
