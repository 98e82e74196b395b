"""Intervals over examples: metrics from saved predictions, on resampled examples."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kasa_corda.evaluation.metrics import METRICS
from kasa_corda.report.records import Outcome, RunRecord
from kasa_corda.verdicts.examples import RESAMPLES, resampled, sums_of
from kasa_corda.verdicts.examples import percentiles as two_level

COUNT = 400


def run(folder: Path, rows: list[dict[str, Any]], metric: str, score: float, name: str = "test") -> RunRecord:
    """A finished run with predictions; the stored score is ``score``."""
    file = folder / "predictions" / f"{name}.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(map(json.dumps, rows)) + "\n")
    return RunRecord(folder, "finished", metric=metric, seed=0, best=Outcome(1, 1.0, {}, {metric: score}))


def graded(predictions: Any, references: Any) -> list[dict[str, Any]]:
    pairs = zip(predictions, references, strict=True)
    return [{"id": f"e{i}", "prediction": p, "reference": y, "score": float(p == y)} for i, (p, y) in enumerate(pairs)]


def answers(seed: int, right: float = 0.8, count: int = COUNT) -> tuple[list[int], list[int]]:
    generator = np.random.default_rng(seed)
    references = (np.random.default_rng(99).random(count) < 0.6).astype(int)
    return np.where(generator.random(count) < right, references, 1 - references).tolist(), references.tolist()


class TestMetrics:
    @pytest.mark.parametrize("metric", ["accuracy", "f1", "matthews"])
    def test_counts_give_the_metric_of_every_resample(self, tmp_path: Path, metric: str) -> None:
        predictions, references = answers(1)
        function = METRICS[metric]
        table = sums_of(run(tmp_path, graded(predictions, references), metric, function(predictions, references)), None)
        assert table is not None
        drawn = np.random.default_rng(0).integers(0, COUNT, COUNT)
        expected = function(np.array(predictions)[drawn], np.array(references)[drawn])
        assert table.score(table.columns[drawn].sum(axis=0)) == pytest.approx(expected)

    def test_correlations(self, tmp_path: Path) -> None:
        generator = np.random.default_rng(0)
        y = generator.uniform(0, 5, COUNT)
        x = y + generator.normal(0, 1, COUNT)
        for metric, error in (("pearson", 1e-9), ("spearman", 0.02)):  # ranks stay those of the whole sample
            table = sums_of(run(tmp_path / metric, graded(x.tolist(), y.tolist()), metric, METRICS[metric](x, y)), None)
            assert table is not None
            drawn = generator.integers(0, COUNT, COUNT)
            expected = METRICS[metric](x[drawn], y[drawn])
            assert table.score(table.columns[drawn].sum(axis=0)) == pytest.approx(expected, abs=error)

    def test_likelihood_weighs_answers_by_their_tokens(self, tmp_path: Path) -> None:
        rows = [{"id": "a", "answer_nll": 1.0, "answer_tokens": 3}, {"id": "b", "answer_nll": 2.0, "answer_tokens": 1}]
        table = sums_of(run(tmp_path, rows, "answer_likelihood", math.exp(-5 / 4)), None)
        assert table is not None and table.score(np.array([5.0, 4.0])) == pytest.approx(math.exp(-5 / 4))

    def test_a_further_tasks_metric_has_its_own_file(self, tmp_path: Path) -> None:
        rows = [{"id": str(i), "exact_match": float(i % 4 == 0)} for i in range(8)]
        one = run(tmp_path, rows, "nq_open_exact_match", 0.25, name="nq_open")
        one.config["task"] = {"also_evaluate": {"nq_open": {}}}
        assert sums_of(one, "nq_open_exact_match") is not None

    def test_predictions_that_do_not_give_the_score_are_not_used(self, tmp_path: Path) -> None:
        predictions, references = answers(1)
        assert sums_of(run(tmp_path, graded(predictions, references), "bleu", 0.31), None) is None
        assert sums_of(RunRecord(tmp_path / "none", "finished", best=Outcome(1, 1.0, {}, {"?": 0.5})), None) is None


class TestResampling:
    def test_the_variance_is_that_of_the_mean_over_examples(self, tmp_path: Path) -> None:
        ours, references = answers(1)
        other, _ = answers(2, right=0.7)
        pair = [
            run(tmp_path / name, graded(p, references), "accuracy", METRICS["accuracy"](p, references))
            for name, p in (("a", ours), ("b", other))
        ]
        found = resampled(pair[:1], pair[1:], None)
        assert found is not None and found.examples == COUNT
        differences = np.equal(ours, references).astype(float) - np.equal(other, references)
        assert found.variance == pytest.approx(differences.var() / COUNT, rel=0.15)

    def test_disagreement_between_seeds_is_not_counted_twice(self, tmp_path: Path) -> None:
        # every seed answers at random: examples are no harder or easier than others, so that they add nothing
        sides = []
        for side in (0, 100):
            runs = []
            for seed in range(5):
                predictions, references = answers(side + seed)
                score = METRICS["accuracy"](predictions, references)
                runs.append(run(tmp_path / f"{side}{seed}", graded(predictions, references), "accuracy", score))
            sides.append(runs)
        found = resampled(*sides, None)
        assert found is not None
        plain = found.differences.mean(axis=1).var()
        assert found.variance < 0.5 * plain

    def test_an_example_that_all_seeds_get_alike_is_counted_once(self, tmp_path: Path) -> None:
        ours, references = answers(1)
        other, _ = answers(2)
        runs = []
        for name, predictions in (("a", ours), ("b", other)):
            score = METRICS["accuracy"](predictions, references)
            one = [run(tmp_path / f"{name}{s}", graded(predictions, references), "accuracy", score) for s in range(3)]
            runs.append(one)
        found, single = resampled(*runs, None), resampled(runs[0][:1], runs[1][:1], None)
        assert found is not None and single is not None
        assert found.variance == pytest.approx(single.variance)

    def test_one_run_without_predictions_leaves_seeds_alone(self, tmp_path: Path) -> None:
        predictions, references = answers(1)
        one = run(tmp_path, graded(predictions, references), "accuracy", METRICS["accuracy"](predictions, references))
        bare = RunRecord(tmp_path / "bare", "finished", metric="accuracy", best=Outcome(1, 1.0, {}, {"accuracy": 0.5}))
        assert resampled([one], [bare], None) is None

    def test_the_two_level_bootstrap_repeats_itself(self, tmp_path: Path) -> None:
        predictions, references = answers(1)
        one = run(tmp_path, graded(predictions, references), "accuracy", METRICS["accuracy"](predictions, references))
        found = resampled([one, one], [None, None], None)
        assert found is not None and found.differences.shape == (RESAMPLES, 2)
        low, high = two_level([found], [[0.1, 0.2]])
        assert (low, high) == two_level([found], [[0.1, 0.2]]) and low < 0.15 < high
