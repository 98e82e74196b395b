"""Which claims of the papers a run helps to decide, and how long it takes: what jobs are ordered by."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict
from functools import cache
from typing import Any

from ..config import RunConfig
from ..errors import KasaCordaError

SELECTED_LATER = ("seed", "trainer.learning_rate", "selection")
"""keys that differ among the runs of one comparison"""


def claims_of(config: RunConfig) -> tuple[str, ...]:
    """Ids of the claims one of whose comparisons this run stands in, in either place."""
    from ..verdicts.conditions import matches

    settings: dict[str, Any] | None = None
    found: dict[str, None] = {}
    for claim, tasks, where in _comparisons(config.scale.name)[config.model.name]:
        if claim in found or tasks.isdisjoint(_tasks(config)):
            continue
        settings = settings if settings is not None else _flat(config)
        if all(key not in settings or matches(settings[key], value) for key, value in where.items()):
            found[claim] = None
    return tuple(found)


def seconds_of(config: RunConfig) -> float | None:
    """What the cost model expects of a run on this machine; None where it can't say."""
    from ..cost import estimate

    try:
        return estimate(config).seconds
    except (KasaCordaError, ArithmeticError, LookupError, AttributeError, TypeError, ValueError):
        return None  # an order, not a result: a model that can't be counted runs all the same


@cache
def _comparisons(scale: str) -> dict[str, list[tuple[str, frozenset[str], dict[str, Any]]]]:
    """Model -> (claim, its tasks, conditions of one side)."""
    from ..paper.claims import read_claims

    found: dict[str, list[tuple[str, frozenset[str], dict[str, Any]]]] = defaultdict(list)
    for claim in read_claims():
        for part in claim.pocket if scale == "pocket" else claim.parts:
            for side in (part.ours, part.reference):
                if side is not None:
                    where = {k: v for k, v in {**part.where, **side.where}.items() if k not in SELECTED_LATER}
                    found[part.model].append((claim.id, frozenset(part.tasks), where))
    return found


def _tasks(config: RunConfig) -> set[str]:
    return {config.task.name, *(getattr(config.task, "also_evaluate", None) or {})}


def _flat(config: RunConfig) -> dict[str, Any]:
    from ..report.records import flatten

    flat = flatten(asdict(config))
    return {**flat, "method": config.method.name, "model": config.model.name, "task": config.task.name}
