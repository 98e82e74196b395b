"""What other examples would have given: metrics recomputed from saved predictions on resampled examples.

Every metric used here is a function of sums over examples (counts of a confusion matrix, moments, likelihoods), so
that a resample is a product of counts and a table.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from ..evaluation.generation import LIKELIHOOD

if TYPE_CHECKING:
    import numpy as np

    from ..report.records import RunRecord

    Score: TypeAlias = Callable[[np.ndarray], np.ndarray]

RESAMPLES = 1000
CLASSES = 5
"""confusion matrices of more classes are not resampled"""
TOLERANCE = 1e-6
COMMON = 0.9
"""share of the examples that all runs must have"""


@dataclass(frozen=True)
class Sums:
    """One run's examples. ``columns`` (examples, k): what is summed; ``score``: (..., k) sums -> the metric."""

    ids: tuple[str, ...]
    columns: np.ndarray
    score: Score


@dataclass(frozen=True)
class Resampled:
    """Differences of one task on resampled examples, the same ones for all runs: (resamples, seeds)."""

    examples: int
    differences: np.ndarray

    @property
    def variance(self) -> float:
        """What the draw of examples adds to the variance of the mean over seeds.

        An example that one seed gets right and another doesn't shows in the spread over seeds already; that share is
        taken out.
        """
        centred = self.differences - self.differences.mean(axis=0)
        mean = centred.mean(axis=1)
        seeds = centred.shape[1]
        each = ((centred - mean[:, None]) ** 2).sum() / (seeds - 1) / len(centred) if seeds > 1 else 0.0
        return max(0.0, float((mean**2).mean() - each / seeds))


def resampled(ours: Sequence[RunRecord], reference: Sequence[RunRecord | None], metric: str | None) -> Resampled | None:
    """Of one task, run by run; None where a run kept no predictions, or they don't give its score.

    ``reference`` None stands for a fixed number.
    """
    import numpy as np

    tables: dict[Path, Sums] = {}
    for run in (*ours, *reference):
        if run is not None and run.path not in tables:
            found = sums_of(run, metric)
            if found is None:
                return None
            tables[run.path] = found
    ids = next(iter(tables.values())).ids
    if any(table.ids is not ids for table in tables.values()):
        shared = set.intersection(*(set(table.ids) for table in tables.values()))
        ids = _interned(tuple(key for key in ids if key in shared))
    if len(ids) < max(2, COMMON * max(len(table.ids) for table in tables.values())):
        return None
    scores = {path: table.score(sums_of_draws(_rows(table, ids))) for path, table in tables.items()}
    nothing = np.zeros(RESAMPLES)
    pairs = zip(ours, reference, strict=True)
    columns = [scores[one.path] - (nothing if other is None else scores[other.path]) for one, other in pairs]
    return Resampled(len(ids), np.stack(columns, axis=1))


def percentiles(tasks: Sequence[Resampled], differences: Sequence[Sequence[float]]) -> tuple[float, float]:
    """95 % percentile bootstrap of the mean over tasks and seeds: seeds drawn again within each task, and examples."""
    import numpy as np

    generator = np.random.default_rng(0)
    total = np.zeros(RESAMPLES)
    for task, row in zip(tasks, differences, strict=True):
        seeds = generator.integers(0, len(row), (RESAMPLES, len(row)))
        # round the computed scores: resampled Spearman ranks and Poisson counts have a slightly other mean
        moved = task.differences - task.differences.mean(axis=0) + np.asarray(row)
        total += np.take_along_axis(moved, seeds, axis=1).mean(axis=1)
    low, high = np.percentile(total / len(tasks), (2.5, 97.5))
    return float(low), float(high)


def of_seeds(differences: Sequence[Sequence[float]]) -> tuple[float, float]:
    """The same where no predictions were kept: seeds alone."""
    import numpy as np

    rows = [np.asarray(row, dtype=float) for row in differences]
    return percentiles([Resampled(0, np.tile(row, (RESAMPLES, 1))) for row in rows], differences)


def sums_of(run: RunRecord, metric: str | None) -> Sums | None:
    """The run's own metric, or a key of best.test, from the predictions of its selected epoch."""
    key = metric or run.metric
    stored = run.best.test.get(key) if run.best else None
    if stored is None:
        return None
    owner = next((name for name in run.further_tasks if key.startswith(f"{name}_")), None)
    return _sums(run.path, key.removeprefix(f"{owner}_") if owner else key, owner, run.further_tasks, stored)


@lru_cache(maxsize=512)
def _sums(path: Path, metric: str, owner: str | None, further: tuple[str, ...], stored: float) -> Sums | None:
    import numpy as np

    folder = path / "predictions"
    stems = [owner] if owner else sorted({file.stem for file in folder.glob("*.jsonl")} - {*further})
    rows = [
        (f"{stem}/{row.get('id')}", row)
        for stem in stems
        if not stem.endswith("_last")
        for row in _read(folder / f"{stem}.jsonl")
    ]
    try:
        built = _build([row for _, row in rows], metric) if rows else None
    except (KeyError, TypeError, ValueError):
        return None
    if built is None:
        return None
    columns, score = built
    computed = float(score(columns.sum(axis=0)))
    if not abs(computed - stored) <= TOLERANCE * max(1.0, abs(stored)):
        return None  # scored by a rule that is no function of these sums, or rows are missing
    return Sums(_interned(tuple(key for key, _ in rows)), columns.astype(np.float64), score)


def _build(rows: list[dict[str, Any]], metric: str) -> tuple[np.ndarray, Score] | None:
    import numpy as np

    if metric in (LIKELIHOOD, "perplexity") and "answer_nll" in rows[0]:
        tokens = np.array([row["answer_tokens"] for row in rows], dtype=float)
        nll = np.array([row["answer_nll"] for row in rows], dtype=float) * tokens
        sign = -1.0 if metric == LIKELIHOOD else 1.0
        return np.stack([nll, tokens], axis=1), lambda s: np.exp(sign * s[..., 0] / s[..., 1])
    if metric in rows[0]:
        return _mean([row[metric] for row in rows])
    if metric in ("pearson", "spearman"):
        pair = [np.array([row[side] for row in rows], dtype=float) for side in ("prediction", "reference")]
        return _correlation(*(_ranks(values) if metric == "spearman" else values for values in pair))
    if metric in ("matthews", "f1") and all(isinstance(row.get("reference"), int) for row in rows):
        return _confusion(rows, metric)
    return _mean([row["score"] for row in rows])


def _mean(values: list[Any]) -> tuple[np.ndarray, Score]:
    import numpy as np

    numbers = np.array(values, dtype=float)
    return np.stack([numbers, np.ones_like(numbers)], axis=1), lambda s: s[..., 0] / s[..., 1]


def _correlation(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, Score]:
    """Pearson's, from moments of standardised values (so that nothing cancels)."""
    import numpy as np

    x, y = ((v - v.mean()) / (v.std() or 1.0) for v in (x, y))

    def score(s: np.ndarray) -> np.ndarray:
        n = s[..., 5]
        spread = (n * s[..., 2] - s[..., 0] ** 2) * (n * s[..., 3] - s[..., 1] ** 2)
        safe = np.where(spread > 0, spread, 1.0)
        return np.where(spread > 0, (n * s[..., 4] - s[..., 0] * s[..., 1]) / np.sqrt(safe), 0.0)

    return np.stack([x, y, x * x, y * y, x * y, np.ones_like(x)], axis=1), score


def _confusion(rows: list[dict[str, Any]], metric: str) -> tuple[np.ndarray, Score] | None:
    import numpy as np

    predicted, actual = (np.array([int(row[side]) for row in rows]) for side in ("prediction", "reference"))
    names = np.union1d(predicted, actual)
    if len(names) > CLASSES:
        return None
    k = len(names)
    cell = np.searchsorted(names, predicted) * k + np.searchsorted(names, actual)
    columns = np.eye(k * k)[cell]
    positive = names == 1

    def score(s: np.ndarray) -> np.ndarray:
        table = s.reshape(*s.shape[:-1], k, k)  # (predicted, actual)
        of_predicted, of_actual = table.sum(-1), table.sum(-2)
        if metric == "f1":
            both = table[..., positive, :][..., positive].sum((-1, -2))
            total = of_predicted[..., positive].sum(-1) + of_actual[..., positive].sum(-1)
            return np.where(total > 0, 2 * both / np.where(total > 0, total, 1), 0.0)
        n = of_predicted.sum(-1)
        right = np.trace(table, axis1=-2, axis2=-1)
        covariance = right * n - (of_predicted * of_actual).sum(-1)
        spread = (n**2 - (of_predicted**2).sum(-1)) * (n**2 - (of_actual**2).sum(-1))
        return np.where(spread > 0, covariance / np.sqrt(np.where(spread > 0, spread, 1)), 0.0)

    return columns, score


def _ranks(values: np.ndarray) -> np.ndarray:
    from scipy.stats import rankdata

    return rankdata(values)


@lru_cache(maxsize=64)
def _interned(ids: tuple[str, ...]) -> tuple[str, ...]:
    """The same object for equal ids: runs of one test set share it."""
    return ids


def _rows(table: Sums, ids: tuple[str, ...]) -> np.ndarray:
    if table.ids is ids:
        return table.columns
    place = {key: index for index, key in enumerate(table.ids)}
    return table.columns[[place[key] for key in ids]]


def sums_of_draws(columns: np.ndarray) -> np.ndarray:
    """(resamples, k) sums over drawn examples"""
    import numpy as np

    counts = _counts(len(columns))
    blocks = [counts[start : start + 100].astype(np.float64) @ columns for start in range(0, RESAMPLES, 100)]
    return np.concatenate(blocks)


@lru_cache(maxsize=16)
def _counts(examples: int) -> np.ndarray:
    """(resamples, examples): how often each example is drawn, independent Poisson counts of mean one."""
    import numpy as np

    generator = np.random.default_rng(0)
    return np.stack([generator.poisson(1.0, examples).astype(np.uint8) for _ in range(RESAMPLES)])


def _read(file: Path) -> list[dict[str, Any]]:
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").split("\n")
        return [json.loads(line) for line in lines if line]
    except (OSError, ValueError):
        return []
