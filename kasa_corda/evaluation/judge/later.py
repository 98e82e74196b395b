"""Judging a finished run from its saved answers (``scripts/judge.py``)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...errors import KasaCordaError
from ...progress import Progress
from ...store import RunDirectory
from . import METRICS, NOT_JUDGED
from .client import Client
from .items import items_of, judgeable
from .run import Judged, cost_of, judge, opponents_of, requests_for, verdicts_file
from .settings import REFERENCE, JudgeConfig
from .store import Store

LAST = "_last"
JUDGED = "judged by "


def judge_run(
    directory: RunDirectory,
    settings: JudgeConfig,
    client: Client | None,
    progress: Progress,
    *,
    last: bool = False,
    spent: float = 0.0,
) -> tuple[float, dict[str, float]]:
    """Judge every split that has answers, in the best and, with ``last``, in the last state; write rows and scores.

    Without a ``client`` only the cost is shown.
    Returns the dollars spent so far and the new scores of the best state. KasaCordaError if the run has no result or
    no answers that can be judged.
    """
    result = directory.result()
    if result is None:
        raise KasaCordaError(f"{directory.path} has no result yet (state: {directory.state()}); finish it first")
    splits = {name: rows for name in _splits(directory, last) if judgeable(rows := directory.predictions(name))}
    if not splits:
        raise KasaCordaError(f"{directory.path} has no answers that a judge could score in its predictions/")
    store = Store(verdicts_file(settings))
    scores: dict[str, float] = {}
    for name, rows in splits.items():
        items = items_of(rows)
        opponents = opponents_of(items, settings, _against(settings, name))
        if client is None:
            expected = cost_of(requests_for(items, settings, opponents), settings, store)
            progress.say(f"{directory.path}, {name}: {expected.text()}")
            continue
        judged, spent = judge(items, settings, client, store, progress, opponents=opponents, spent=spent)
        directory.write_predictions(name, _rows(rows, judged, result["metric"] if _own(name) else None))
        new = _take_over(result, name, judged)
        scores |= {} if name.endswith(LAST) else new
    if scores:
        directory.write_result(result)
    return spent, scores


def _splits(directory: RunDirectory, last: bool) -> list[str]:
    found = sorted(path.stem for path in (directory.path / "predictions").glob("*.jsonl"))
    return [name for name in found if last or not name.endswith(LAST)]


def _own(name: str) -> bool:
    return name.removesuffix(LAST) == "test"


def _against(settings: JudgeConfig, split: str) -> list[dict[str, Any]] | None:
    if settings.against in (None, REFERENCE):
        return None
    return RunDirectory(Path(str(settings.against))).predictions(split)


def _rows(rows: list[dict[str, Any]], judged: Judged, metric: str | None) -> list[dict[str, Any]]:
    """Rows with their verdicts; ``score`` too where the run is scored by the judge."""
    merged = [row | verdict for row, verdict in zip(rows, judged.rows, strict=True)]
    return [row | {"score": row[metric]} if metric in METRICS and metric in row else row for row in merged]


def _take_over(result: dict[str, Any], split: str, judged: Judged) -> dict[str, float]:
    """Put scores, errors and notes in a result; the scores by their names there."""
    name = split.removesuffix(LAST)
    prefix = "" if _own(split) else f"{name}_"
    new = {f"{prefix}{metric}": value for metric, value in judged.scores.items()}
    errors = {f"{prefix}{metric}": value for metric, value in judged.errors.items()}
    moments = [result["last"] if split.endswith(LAST) else result["best"]]
    if moments[0] is result["best"] and result["best"].get("step") == result["last"].get("step"):
        moments.append(result["last"])
    for moment in moments:
        moment["test"] |= new
        moment.setdefault("test_errors", {}).update(errors)
    if not split.endswith(LAST):
        before = "" if _own(split) else f"{name}: "
        stale = (f"{before}{NOT_JUDGED}", f"{before}{JUDGED}")
        kept = [note for note in result.get("notes") or [] if not str(note).startswith(stale)]
        result["notes"] = kept + [f"{before}{note}" for note in judged.notes]
    return new
