"""Paired comparisons to a reference method: over common seeds, and example by example where predictions are kept."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..evaluation.generation import LIKELIHOOD
from .groups import Group
from .records import RunRecord
from .statistics import PairedDifference, combine_dependent, holm, mcnemar, paired_bootstrap, paired_difference

SIGNIFICANT = 0.05


@dataclass(frozen=True)
class ExampleTest:
    """A test over the examples of the evaluation set: McNemar for right or wrong, else a paired bootstrap."""

    name: str
    p: float
    examples: int
    seeds: int


@dataclass(frozen=True)
class Comparison:
    """One method against the reference on one task; ``p_holm`` is corrected over all comparisons with it."""

    task: str
    label: str
    reference_label: str
    group: Group
    reference: Group
    difference: PairedDifference
    p_holm: float | None = None
    examples: ExampleTest | None = None
    examples_holm: float | None = None
    remark: str | None = None

    @property
    def verdict(self) -> str:
        """What the corrected tests allow to say; a result that only repeats on these very examples says so."""
        if self.p_holm is None or math.isnan(self.p_holm):
            return "too few seeds" if self.difference.n < 2 else "not testable"
        if self.p_holm >= SIGNIFICANT:
            return "no difference shown"
        word = "better" if (self.difference.mean > 0) == self.group.first.higher_is_better else "worse"
        unsure = self.examples_holm is not None and not self.examples_holm < SIGNIFICANT
        return f"{word} over seeds, not over examples" if unsure else word


def compare(task: str, label: str, group: Group, reference_label: str, reference: Group) -> Comparison | None:
    """One uncorrected comparison; None if the two have no seed in common or different metrics."""
    if group.first.metric != reference.first.metric:
        return None
    paired = paired_difference(group.scores(), reference.scores())
    if paired is None:
        return None
    return Comparison(
        task=task,
        label=label,
        reference_label=reference_label,
        group=group,
        reference=reference,
        difference=paired,
        examples=compare_examples(group, reference),
        remark=None if same_data(group.first, reference.first) else "the two were run on different data",
    )


def same_data(one: RunRecord, other: RunRecord) -> bool:
    """Whether all their splits are equal, or the tested ones where one of the two trained nothing."""
    if one.fingerprints.get("data.fingerprint") == other.fingerprints.get("data.fingerprint"):
        return True
    tested = [run.result.get("data", {}).get("test_fingerprint") for run in (one, other)]
    untrained = 0 in [run.number("parameters", "trainable") for run in (one, other)]
    return untrained and tested[0] is not None and tested[0] == tested[1]


def corrected(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """With Holm's correction over all of these, for either kind of test."""
    over_seeds = holm([c.difference.p for c in comparisons])
    over_examples = holm([c.examples.p if c.examples else None for c in comparisons])
    return [
        replace(c, p_holm=p, examples_holm=q) for c, p, q in zip(comparisons, over_seeds, over_examples, strict=True)
    ]


def compare_examples(group: Group, reference: Group) -> ExampleTest | None:
    """The examples both predicted, seed by seed; None where a run kept no predictions.

    Right or wrong: exact McNemar per seed, combined over seeds by twice the median p. Anything else:
    the per-example difference averaged over seeds, then a paired bootstrap over examples.
    """
    theirs = {run.seed: run for run in reference.finished}
    tables: list[dict[str, tuple[float, float]]] = []
    for run in group.finished:
        if run.seed not in theirs:
            continue
        ours, other = example_scores(run), example_scores(theirs[run.seed])
        common = {key: (value, other[key]) for key, value in ours.items() if key in other}
        if not common:
            return None
        tables.append(common)
    return paired_examples(tables)


def paired_examples(tables: Sequence[dict[str, tuple[float, float]]]) -> ExampleTest | None:
    """The test of ``compare_examples`` on tables 'example -> its two scores', one per seed."""
    if not tables or not all(tables):
        return None
    examples = min(map(len, tables))
    if all(value in (0.0, 1.0) for table in tables for pair in table.values() for value in pair):
        p = combine_dependent([mcnemar(*_discordant(table)) for table in tables])
        return ExampleTest("McNemar", p, examples, len(tables))
    shared = [key for key in tables[0] if all(key in table for table in tables)]
    if not shared:
        return None
    means = [sum(table[key][0] - table[key][1] for table in tables) / len(tables) for key in shared]
    return ExampleTest("bootstrap", paired_bootstrap(means), len(shared), len(tables))


def example_scores(run: RunRecord) -> dict[str, float]:
    """'split/id' -> what the metric sums over the selected epoch's predictions; empty if the run kept none."""
    own = run.split is None and run.metric == run.own_metric
    return _example_scores(run.path, run.metric, run.split, run.further_tasks, own)


@lru_cache(maxsize=64)
def _example_scores(run: Path, metric: str, split: str | None, further: tuple[str, ...], own: bool) -> dict[str, float]:
    folder = run / "predictions"
    if split:
        return {f"{split}/{key}": value for key, value in file_scores(folder / f"{split}.jsonl", metric, own).items()}
    scores: dict[str, float] = {}
    for file in sorted(folder.glob("*.jsonl")):
        if not file.stem.endswith("_last") and file.stem not in further:
            scores |= {f"{file.stem}/{key}": value for key, value in file_scores(file, metric, own).items()}
    return scores


def file_scores(file: Path, metric: str, own: bool = False) -> dict[str, float]:
    """id -> score in one file of predictions; empty if there is none. Rows that can't be read are left out."""
    scores: dict[str, float] = {}
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:
        return scores
    for line in lines:
        try:
            row = json.loads(line)
            scores[str(row["id"])] = _example_score(row, metric, own)
        except (ValueError, TypeError, KeyError):
            continue
    return scores


def _example_score(row: dict[str, Any], metric: str, own: bool) -> float:
    """Of one example; ``score`` stands for the run's own metric only."""
    if metric == LIKELIHOOD and "answer_nll" in row:
        # summed over the answer's tokens, as in the metric: equal references make equal numbers of tokens
        return -float(row["answer_nll"]) * float(row["answer_tokens"])
    return float(row["score"] if own and metric not in row else row[metric])


def _discordant(table: dict[str, tuple[float, float]]) -> tuple[int, int]:
    only_ours = sum(ours > other for ours, other in table.values())
    return only_ours, sum(ours < other for ours, other in table.values())
