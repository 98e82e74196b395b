"""From numbers to a verdict. Reasons, and how often the rule is wrong: docs/statistics.md."""

from __future__ import annotations

from .inference import LEVEL, Estimate
from .verdict import STATES

WANTED = 0.5
"""the share of a published difference that has to be possible still: where the data exclude it, the claim failed"""
LEANING = 0.2
"""a difference of the right sign counts as 'direction' below this two-sided p-value (over seeds and examples)"""


def wanted_effect(kind: str, threshold: float, published: float | None) -> float | None:
    """The difference that must not be excluded; None where nothing (or nothing beyond the margin) was published."""
    if kind != "above" or published is None or published <= threshold:
        return None
    return threshold + WANTED * (published - threshold)


def decide(
    found: Estimate,
    threshold: float,
    p_holm: float | None,
    wanted: float | None = None,
    p_wanted: float | None = None,
) -> str:
    """'reproduced', 'not_reproduced', 'direction' or 'undecidable'. ``p_holm``, ``p_wanted``: Holm-corrected p-values
    of 'the difference is ``threshold``' and of 'it is ``wanted``'."""
    interval = found.interval()
    if interval is None:
        return "undecidable"
    low, high = interval
    clear = p_holm is not None and p_holm < LEVEL
    if clear and low > threshold:
        return "reproduced"
    if clear and high < threshold:
        return "not_reproduced"
    if wanted is not None and high < wanted and p_wanted is not None and p_wanted < LEVEL:
        return "not_reproduced"
    p = found.p(threshold, examples=True)
    return "direction" if found.mean > threshold and p is not None and p < LEANING else "undecidable"


def of_all(states: list[str], needed: int | None = None) -> str:
    """Of a claim, which holds if all its parts do, or ``needed`` of them. It is decided as soon as it can't come
    otherwise, whatever else is missing."""
    needed = len(states) if needed is None else needed
    counts = {state: states.count(state) for state in STATES}
    if not states:
        return "missing"
    if counts["reproduced"] >= needed:
        return "reproduced"
    if len(states) - counts["not_reproduced"] < needed:
        return "not_reproduced"
    if counts["reproduced"] + counts["direction"] >= needed:
        return "direction"
    return "missing" if counts["missing"] else "undecidable"
