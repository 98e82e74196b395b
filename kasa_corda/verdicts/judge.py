"""``judge``: a verdict for every claim."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from ..errors import ConfigError, unknown
from ..report.statistics import holm
from .compared import Compared, compare
from .inference import LEVEL
from .power import seeds_needed
from .rule import decide, of_all
from .runs import Index
from .sentences import claim_sentence
from .verdict import FORMS, RATES, ClaimVerdict, PartVerdict

if TYPE_CHECKING:
    from ..paper.claims import Claim
    from ..report.records import RunRecord


def judge(
    claims: Iterable[Claim],
    records: Iterable[RunRecord],
    form: str = "paper",
    lr: str = "paper",
    examples: bool = True,
) -> list[ClaimVerdict]:
    """The verdict of every claim in one form ('paper' or 'pocket') under one rule for the learning rate.

    lr 'paper': runs at the published rates; 'tuned': each method at the rate that its search chose, fresh seeds only.
    ``examples=False`` leaves saved predictions unread. The family that p-values are corrected over is the claim.
    """
    for key, given, valid in (("form", form, FORMS), ("lr", lr, RATES)):
        if given not in valid:
            raise ConfigError(unknown(key, given, valid))
    index = Index(records, lr)
    known: dict[int, Compared] = {}  # claims share parts
    verdicts = []
    for claim in claims:
        parts = claim.parts if form == "paper" else claim.pocket
        compared = []
        for part in parts:
            if id(part) not in known:
                known[id(part)] = compare(part, index, examples)
            compared.append(known[id(part)])
        verdicts.append(_verdict(claim, form, lr, compared))
    return verdicts


def _verdict(claim: Claim, form: str, lr: str, compared: Sequence[Compared]) -> ClaimVerdict:
    tests = [None if one.exact else one.p for one in compared]
    corrected, wanted = holm(tests), holm([one.p_wanted for one in compared])
    family = max(1, sum(p is not None for p in tests))
    parts = [_part(one, p, q, family) for one, p, q in zip(compared, corrected, wanted, strict=True)]
    state = of_all([part.state for part in parts], claim.needed)
    return ClaimVerdict(claim, form, lr, state, tuple(parts), claim_sentence(claim, form, state, parts))


def _part(one: Compared, p_holm: float | None, p_wanted: float | None, family: int) -> PartVerdict:
    found = one.found
    if found is None:
        return PartVerdict(one.part, "missing", notes=one.missing, threshold=one.threshold)
    if one.exact:
        # not_worse and bounds include equality
        holds = found.mean > one.threshold if one.part.kind == "above" else found.mean >= one.threshold
        state = "reproduced" if holds else "not_reproduced"
        if one.part.kind == "above" and found.mean == 0:  # may be a floor that both sit on, not a finding
            state = "undecidable"
    else:
        state = decide(found, one.threshold, p_holm, one.wanted, p_wanted)
    interval = found.interval() or (None, None)
    effect = (one.published if one.wanted is not None and one.published is not None else found.mean) - one.threshold
    open_ = state in ("undecidable", "direction") and not one.exact
    return PartVerdict(
        one.part,
        state,
        difference=found.mean,
        low=interval[0],
        high=interval[1],
        p=None if one.exact else one.p,
        p_holm=p_holm,
        effect=found.effect,
        seeds=len(one.seeds),
        seeds_needed=seeds_needed(found, effect, LEVEL / family) if open_ and found.seed_variance else None,
        ours_runs=one.ours_runs,
        reference_runs=one.reference_runs,
        notes=(*one.notes, *_disagreement(one, state)),
        threshold=one.threshold,
        published=one.published,
        p_wanted=p_wanted,
        p_permutation=one.p_permutation,
        bootstrap_low=one.bootstrap[0] if one.bootstrap else None,
        bootstrap_high=one.bootstrap[1] if one.bootstrap else None,
        std=found.std,
        examples=one.examples,
        ours=one.means[0],
        reference=one.means[1],
        tasks=one.tasks,
        metric=one.metric,
    )


def _disagreement(one: Compared, state: str) -> list[str]:
    """Where the permutation test, though it could have shown a difference, did not confirm the verdict."""
    smallest = 2 / 2 ** (len(one.seeds) * len(one.part.tasks))
    p = one.p_permutation
    if state != "reproduced" or one.exact or p is None or smallest > LEVEL or p < LEVEL:
        return []
    return [f"the permutation test does not confirm it (p = {p:.3f})"]
