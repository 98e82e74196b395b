"""``--metric``: several metrics of the same runs side by side, also those of further evaluated tasks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from ..errors import ConfigError, unknown
from .records import RunRecord


def by_metric(records: Iterable[RunRecord], metrics: Sequence[str]) -> list[RunRecord]:
    """Every run once per metric that its task has, as a column of its own: task 'gsm8k (exact_match)'.

    Metrics are named as in result.json, those of a further task as <task>_<metric>. ConfigError if no run has one.
    """
    records = [record for record in records if record.tested]
    found = {r.task: set(r.best.test) for r in records if r.best}
    known = {metric for names in found.values() for metric in names}
    for metric in metrics:
        if metric not in known:
            raise ConfigError(unknown("--metric", metric, known))
    return [_shown(r, metric) for metric in dict.fromkeys(metrics) for r in records if metric in found.get(r.task, ())]


def _shown(record: RunRecord, metric: str) -> RunRecord:
    owner = next((name for name in record.further_tasks if metric.startswith(f"{name}_")), None)
    short = metric.removeprefix(f"{owner}_") if owner else metric
    return replace(record, task=f"{owner or record.task} ({short})", metric=short, split=owner)
