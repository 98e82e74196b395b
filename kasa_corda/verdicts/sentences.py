"""Verdicts in plain words, with their numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..report.format import p_value
from .runs import COSTS
from .units import printed_factor, unit
from .verdict import PartVerdict

if TYPE_CHECKING:
    from ..paper.claims import Claim

WORDS = {
    "reproduced": "Reproduced",
    "direction": "Reproduced in direction",
    "not_reproduced": "Not reproduced",
    "undecidable": "Not decidable",
    "missing": "Missing",
}
SHOWN = 3
"""parts told in full"""


def claim_sentence(claim: Claim, form: str, state: str, parts: Sequence[PartVerdict]) -> str:
    """'Not decidable: KaSA is 0.4 points above LoRA on the mean of 5 tasks [-0.8, +1.6] over 5 seeds; ...'"""
    if not parts:
        why = claim.no_pocket if form == "pocket" else claim.no_parts
        return f"No {form} form: {why or 'no comparison is defined'}."
    if len(parts) == 1:
        return f"{WORDS[state]}: {part_sentence(parts[0])}."
    counts = Counter(part.state for part in parts)
    counted = ", ".join(f"{counts[key]} {WORDS[key].lower()}" for key in WORDS if counts[key])
    telling = [part for part in parts if part.state == state] or list(parts)
    shown = 1 if state == "missing" else SHOWN
    told = "; ".join(part_sentence(part) for part in telling[:shown])
    more = f"; and {len(telling) - shown} more" if len(telling) > shown else ""
    return f"{WORDS[state]} ({counted} of {len(parts)} comparisons): {told}{more}."


def part_sentence(found: PartVerdict) -> str:
    """One comparison, without its full stop."""
    if found.state == "missing":
        return f"no result for {'; '.join(found.notes[:SHOWN])}" + (" and more" if len(found.notes) > SHOWN else "")
    words = [_finding(found)]
    if found.state == "reproduced":
        words += _confidence(found) + _published(found)
        if _smaller(found):
            words.append("less than half of it")
    elif found.state == "direction":
        words += ["not significant" + (f" ({_p(found)})" if found.p_holm is not None else ""), *_published(found)]
        words += _needed(found)
    elif found.state == "not_reproduced":
        words += _against(found)
    else:
        words += _needed(found)
    return "; ".join(words)


def _finding(found: PartVerdict) -> str:
    part, difference = found.part, found.difference or 0.0
    place = f"on {_tasks(part.tasks)} with {part.model}"
    over = f" over {found.seeds} seed{'s' if found.seeds != 1 else ''}"
    if part.reference is None:
        bound = "at most" if part.kind == "at_most" else "at least"
        value, margin = (_number(v, found) for v in (found.ours or 0.0, part.margin))
        return f"{part.ours.name} has {found.metric} {value} {place}{over}, claimed is {bound} {margin}"
    name = "" if part.metric in (None, unit(found.metric)) else f" in {part.metric}"
    if difference == 0:
        return f"{part.ours.name} and {part.reference.name} are equal{name} {place}{over}"
    side = ("better", "worse") if _turned(found) else ("above", "below")
    word = side[difference < 0] + (" than" if _turned(found) else "")
    size = f"{_number(abs(difference), found)} {unit(found.metric)}"
    return f"{part.ours.name} is {size} {word} {part.reference.name}{name} {place}{_interval(found)}{over}"


def _turned(found: PartVerdict) -> bool:
    """Whether less is better, so that 'above' would mislead."""
    from ..evaluation.units import higher_is_better

    return found.metric.partition(".")[0] in COSTS or not higher_is_better(found.metric)


def _interval(found: PartVerdict) -> str:
    if found.low is None or found.high is None:
        return ""
    return f" [{_number(found.low, found, True)}, {_number(found.high, found, True)}]"


def _number(value: float, found: PartVerdict, sign: bool = False) -> str:
    """In printed units, with as many decimals as the interval is worth."""
    scale = printed_factor(found.metric)
    width = scale * (found.high - found.low) if found.low is not None and found.high is not None else scale * abs(value)
    decimals = 1 if width >= 1 else 2 if width >= 0.1 else 3 if width >= 0.01 else 4
    return f"{scale * value:{'+' if sign else ''}.{decimals}f}"


def _printed(found: PartVerdict) -> str:
    """The published difference."""
    return f"{printed_factor(found.metric) * (found.published or 0.0):.4g}"


def _tasks(tasks: tuple[str, ...]) -> str:
    if len(tasks) == 1:
        return tasks[0]
    groups = {task.partition("/")[0] for task in tasks}
    same = groups.pop() if len(groups) == 1 and all("/" in task for task in tasks) else ""
    return f"the mean of {len(tasks)} {same.upper() if same == 'glue' else same}{' ' if same else ''}tasks"


def _p(found: PartVerdict) -> str:
    p = p_value(found.p_holm)
    return f"p {p}" if p.startswith("<") else f"p = {p}"


def _confidence(found: PartVerdict) -> list[str]:
    return [] if found.p_holm is None else [f"{_p(found)} after Holm's correction"]


def _published(found: PartVerdict) -> list[str]:
    if found.published is None or found.part.reference is None:
        return []
    return [f"published {_printed(found)}"]


def _smaller(found: PartVerdict) -> bool:
    """Whether the interval leaves less than half of the published difference."""
    if found.published is None or found.high is None or found.part.kind != "above":
        return False
    return found.high - found.threshold < 0.5 * (found.published - found.threshold)


def _against(found: PartVerdict) -> list[str]:
    if found.p_holm is None or found.high is None:
        return []
    if found.high < found.threshold:
        margin = f", beyond the margin of {_number(abs(found.threshold), found)}" if found.threshold else ""
        return [f"significant in the other direction{margin} ({_p(found)})"]
    return [f"a difference of half the published {_printed(found)} is excluded"]


def _needed(found: PartVerdict) -> list[str]:
    if found.difference == 0 and found.low is None:
        return ["equal scores for every seed decide nothing"]
    if found.low is None and found.seeds < 2:
        return ["one seed has no spread to judge by; 3 are the least"]
    if found.low is None:
        return ["the same difference for every seed leaves no spread to judge by"]
    wanted = found.published is not None and found.part.kind == "above" and found.published > found.threshold
    size = (
        f"a difference as large as the published {_printed(found)}"
        if wanted
        else f"a difference as large as ours, {_number(found.difference or 0.0, found)}"
    )
    if found.seeds_needed is None:
        few = f"the {found.examples:,} test examples are too few" if found.examples else "it is too small"
        return [f"no number of seeds would decide {size}: {few}"]
    if found.seeds_needed <= found.seeds:
        return [f"{found.seeds_needed} seeds were enough for {size}, so that it is probably smaller"]
    return [f"about {found.seeds_needed} seeds would decide {size}"]
