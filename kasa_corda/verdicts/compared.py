"""One part of a claim as numbers: paired differences per task and seed, and what is estimated from them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from . import examples
from .inference import Estimate, estimate, permutation
from .rule import wanted_effect
from .runs import Index, more_is_better, value
from .sides import Sides, sides, told
from .units import printed_factor

if TYPE_CHECKING:
    from ..paper.claims import Part

EXACT = ("parameters.",)
"""dotted paths whose value is no draw: one run knows it"""
CERTAIN = 1e9
"""degrees of freedom of a known variance"""


@dataclass(frozen=True)
class Compared:
    """A part before correction. ``missing`` says what is not there yet; then nothing else is known."""

    part: Part
    missing: tuple[str, ...] = ()
    found: Estimate | None = None
    exact: bool = False
    """the values don't depend on a draw of seeds or examples: the comparison is one of numbers"""
    p: float | None = None
    p_wanted: float | None = None
    p_permutation: float | None = None
    wanted: float | None = None
    bootstrap: tuple[float, float] | None = None
    examples: int | None = None
    published: float | None = None
    means: tuple[float | None, float | None] = (None, None)
    metric: str = ""
    tasks: tuple[tuple[str, float], ...] = ()
    seeds: tuple[int, ...] = ()
    ours_runs: tuple[str, ...] = ()
    reference_runs: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def threshold(self) -> float:
        return threshold(self.part)


def threshold(part: Part) -> float:
    """What the difference is tested against."""
    return {"above": part.margin, "not_worse": -part.margin}.get(part.kind, 0.0)


def compare(part: Part, index: Index, use_examples: bool = True) -> Compared:
    """Find the runs of both sides on every task, pair them by seed and estimate the difference."""
    found = [sides(part, task, index) for task in part.tasks]
    if missing := [one for lacking in found if not isinstance(lacking, Sides) for one in lacking]:
        return Compared(part, tuple(told(missing, part.model)))
    pairs = [one for one in found if isinstance(one, Sides)]
    seeds = sorted(set.intersection(*(_valued(one, part.metric) for one in pairs)))
    if not seeds:
        have = "; ".join(f"{one.task} {', '.join(map(str, sorted(one.ours)))}" for one in pairs)
        return Compared(part, (f"no seed was run on all tasks ({have})",))
    notes = [note for one in pairs for note in one.notes]
    rows = [_row(part, one, seeds) for one in pairs]
    trained = any(one.trained for one in pairs)
    drawn = _resampled(part, pairs, seeds) if use_examples else None
    variance = sum(one.variance for one in drawn) / len(pairs) ** 2 if drawn else 0.0
    result = estimate(rows, variance)
    if not trained and result.seed_variance is None and variance > 0:
        result = replace(result, seed_variance=0.0, degrees=CERTAIN)
        notes.append("nothing is trained, so that no seed matters: the interval is over examples alone")
    elif not drawn:
        notes.append("interval over seeds alone: no predictions that give the score were kept on both sides")
    exact = (part.metric or "").startswith(EXACT) or _identical(rows) or (not trained and result.variance is None)
    if exact and _identical(rows) and len(seeds) > 1 and part.reference is not None:
        notes.append("both sides have the same score for every seed")
    if any(not math.isfinite(v) for row in rows for v in row):
        notes.append("a run's score could not be computed (NaN)")
        exact = False
    published = _published(part, pairs)
    bound = threshold(part)
    wanted = wanted_effect(part.kind, bound, published)
    over_examples = not result.seed_variance
    first = pairs[0].ours[seeds[0]]
    several = permutation(rows, bound) if len(seeds) > 1 else None
    return Compared(
        part,
        found=result,
        exact=exact,
        p=result.p(bound, over_examples),
        p_wanted=None if wanted is None else result.p(wanted, over_examples),
        p_permutation=several if trained else None,
        wanted=wanted,
        bootstrap=(examples.percentiles(drawn, rows) if drawn else examples.of_seeds(rows)) if len(seeds) > 1 else None,
        examples=sum(one.examples for one in drawn) if drawn else None,
        published=published,
        means=(_mean(part, pairs, seeds, True), _mean(part, pairs, seeds, False)),
        metric=part.metric or first.metric,
        tasks=tuple((one.task, sum(row) / len(row)) for one, row in zip(pairs, rows, strict=True)),
        seeds=tuple(seeds),
        ours_runs=tuple(dict.fromkeys(one.ours[seed].run_id for one in pairs for seed in seeds)),
        reference_runs=tuple(
            dict.fromkeys(one.reference[seed].run_id for one in pairs for seed in seeds if one.reference)
        ),
        notes=tuple(dict.fromkeys(notes)),
    )


def _valued(one: Sides, metric: str | None) -> set[int]:
    sides = [one.ours] + ([one.reference] if one.reference is not None else [])
    return set.intersection(*({s for s, run in side.items() if value(run, metric) is not None} for side in sides))


def _row(part: Part, one: Sides, seeds: Sequence[int]) -> list[float]:
    """Per seed: how far ours is on the better side of the reference, or on the claimed side of the bound."""
    ours = [_value(one.ours[seed], part.metric) for seed in seeds]
    if one.reference is None:
        return [part.margin - v if part.kind == "at_most" else v - part.margin for v in ours]
    reference = [_value(one.reference[seed], part.metric) for seed in seeds]
    sign = 1 if more_is_better(part.metric, one.ours[seeds[0]]) else -1
    return [sign * (a - b) for a, b in zip(ours, reference, strict=True)]


def _value(run: object, metric: str | None) -> float:
    found = value(run, metric)  # type: ignore[arg-type]
    assert found is not None
    return found


def _resampled(part: Part, pairs: Sequence[Sides], seeds: Sequence[int]) -> list[examples.Resampled] | None:
    """One per task; None as soon as one task has no usable predictions."""
    found = []
    for one in pairs:
        reference = one.reference
        ours = [one.ours[seed] for seed in seeds]
        others = [None if reference is None else reference[seed] for seed in seeds]
        drawn = examples.resampled(ours, others, part.metric)
        if drawn is None:
            return None
        turned = not more_is_better(part.metric, ours[0]) if reference is not None else part.kind == "at_most"
        found.append(replace(drawn, differences=-drawn.differences) if turned else drawn)
    return found


def _identical(rows: Sequence[Sequence[float]]) -> bool:
    return all(value == 0 for row in rows for value in row)


def _published(part: Part, pairs: Sequence[Sides]) -> float | None:
    ours, reference = part.published
    first = next(iter(pairs[0].ours.values()))
    scale = printed_factor(part.metric or first.metric)
    if part.reference is None:
        if ours is None:
            return None
        return part.margin - ours / scale if part.kind == "at_most" else ours / scale - part.margin
    if ours is None or reference is None:
        return None
    return (1 if more_is_better(part.metric, first) else -1) * (ours - reference) / scale


def _mean(part: Part, pairs: Sequence[Sides], seeds: Sequence[int], of_ours: bool) -> float | None:
    values = []
    for one in pairs:
        side = one.ours if of_ours else one.reference
        if side is None:
            return None
        values += [_value(side[seed], part.metric) for seed in seeds]
    return sum(values) / len(values)
