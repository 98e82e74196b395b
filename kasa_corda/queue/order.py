"""Which run comes next: a claim is to be decided as early as possible, and its longest runs must not come last."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from .jobs import Job

UNKNOWN_SECONDS = 60.0
"""of a job whose estimate can't be made"""


def ordered(jobs: Sequence[Job]) -> list[Job]:
    """The claim with the fewest remaining seconds first, all of it before the next, its longest jobs first.

    A job of several claims counts for each and comes with the first of them. Jobs of no claim come last. Equal jobs
    keep their order.
    """
    members: dict[str, list[int]] = defaultdict(list)
    for index, job in enumerate(jobs):
        for claim in job.claims:
            members[claim].append(index)
    left = {claim: sum(cost(jobs[i]) for i in indices) for claim, indices in members.items()}
    order: dict[int, None] = {}
    while left:
        nearest = min(left, key=lambda claim: left[claim])
        del left[nearest]
        for index in longest_first(jobs, (i for i in members[nearest] if i not in order)):
            order[index] = None
            for claim in jobs[index].claims:
                if claim in left:
                    left[claim] -= cost(jobs[index])
    order |= dict.fromkeys(longest_first(jobs, (i for i in range(len(jobs)) if i not in order)))
    return [jobs[index] for index in order]


def longest_first(jobs: Sequence[Job], indices: Iterable[int]) -> list[int]:
    return sorted(indices, key=lambda index: -cost(jobs[index]))


def cost(job: Job) -> float:
    return UNKNOWN_SECONDS if job.seconds is None else job.seconds
