"""Tuned settings (``--tuned``), several metrics of the same runs (``--metric``), several references."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from synthetic_runs import make_run

from kasa_corda.errors import ConfigError, DataError
from kasa_corda.report import Report, build_report, write_report
from kasa_corda.report.__main__ import main
from kasa_corda.report.frames import runs_frame
from kasa_corda.report.grids import choice_grid
from kasa_corda.report.html import page
from kasa_corda.report.render import latex, markdown

RATE = "trainer__learning_rate"


def moment(select: float | None, test: float) -> dict[str, Any]:
    chosen = {} if select is None else {"accuracy": select}
    return {"step": 5, "epoch": 1.0, "select": chosen, "test": {"accuracy": test}}


def tried(root: Path, method: str, rate: float, select: list[float], test: list[float], **options: Any) -> None:
    for seed, (chose, score) in enumerate(zip(select, test, strict=True)):
        result = {"best": moment(chose, score), "last": moment(chose, score)}
        make_run(root, method=method, seed=seed, result=result, **{RATE: rate}, **options)


@pytest.fixture
def grid(tmp_path: Path) -> Path:
    """LoRA is best at 0.01 on the selection split and at 0.001 on the test split; PiSSA at the grid's edge."""
    tried(tmp_path, "lora", 0.001, [0.60, 0.60], [0.90, 0.92])
    tried(tmp_path, "lora", 0.01, [0.65, 0.75], [0.70, 0.72])
    tried(tmp_path, "lora", 0.1, [0.10, 0.20], [0.20, 0.20])
    tried(tmp_path, "pissa", 0.001, [0.80, 0.80], [0.80, 0.83])
    tried(tmp_path, "pissa", 0.01, [0.70, 0.75], [0.99, 0.99])
    return tmp_path


def labels(report: Report) -> list[str]:
    return [row.label for table in report.tables for row in table.rows]


class TestTuned:
    def test_the_selection_split_chooses_never_the_evaluation_set(self, grid: Path) -> None:
        report = build_report([grid], tuned=["learning_rate"])
        assert labels(report) == ["lora, learning_rate=0.01", "pissa, learning_rate=0.001"]
        (table,) = report.tables
        assert [row.groups["glue/rte"].best.mean for row in table.rows] == pytest.approx([0.71, 0.815])  # type: ignore[union-attr]
        assert [c.label for c in table.comparisons] == ["pissa, learning_rate=0.001"]
        assert table.comparisons[0].difference.mean == pytest.approx(0.105)
        assert len(report.records) == 10

    def test_every_candidate_and_the_split_that_chose_are_shown(self, grid: Path) -> None:
        report = build_report([grid], tuned=["trainer.learning_rate"])
        text = markdown(report.tables, report.records)
        rows = [
            [cell.strip() for cell in line.split("|")[1:-1]]
            for line in text.splitlines()
            if line.startswith("| glue/rte")
        ]
        assert ["glue/rte", "lora", "0.01", "70.00 ± 7.07 (2)", "yes"] in rows
        assert ["glue/rte", "lora", "0.1", "15.00 ± 7.07 (2)", ""] in rows
        assert ["glue/rte", "pissa", "0.001", "80.00 ± 0.00 (2)", "yes, at the edge of the grid"] in rows
        for written in (text, latex(report.tables), page(report.tables, report.records)):
            assert "best mean over seeds on examples held out from training" in written
            assert "Selection split (accuracy)" in written and "at the edge of the grid" in written

    def test_with_paper_selection_it_says_that_the_evaluation_set_chose(self, tmp_path: Path) -> None:
        for rate in (0.1, 0.2):
            tried(tmp_path, "lora", rate, [rate], [0.5], selection="paper")
        (table,) = build_report([tmp_path], tuned=["learning_rate"]).tables
        assert "held out" not in table.caption and "Optimistic" in table.caption

    def test_a_choice_made_at_one_seed_and_repeated_is_kept_and_its_task_by_task_value_is_no_note(
        self, tmp_path: Path
    ) -> None:
        for task, best in (("glue/rte", 0.01), ("glue/cola", 0.1)):
            for rate in (0.001, 0.01, 0.1):
                seeds = 3 if rate == best else 1
                tried(tmp_path, "lora", rate, [0.7 if rate == best else 0.6] * seeds, [0.5] * seeds, task=task)
        (table,) = build_report([tmp_path], tuned=["learning_rate"]).tables
        (row,) = table.rows
        assert [group.n for group in row.groups.values()] == [3, 3]
        assert [row[-1].text for row in choice_grid(table)[1]].count("yes") == 1
        assert not any("settings that differ by task" in note for note in table.notes)

    def test_more_seeds_for_a_worse_setting_do_not_pass_for_a_choice(self, tmp_path: Path) -> None:
        for rate, select in ((0.001, [0.9]), (0.01, [0.6, 0.6, 0.6]), (0.1, [0.5])):
            tried(tmp_path, "lora", rate, select, [0.5] * len(select))
        (table,) = build_report([tmp_path], tuned=["learning_rate"]).tables
        marks = [row[-1].text for row in choice_grid(table)[1]]
        assert marks == ["", "yes, though 0.001 did better over the seeds of both", ""]

    def test_a_setting_that_lost_seeds_is_not_chosen(self, tmp_path: Path) -> None:
        tried(tmp_path, "lora", 0.001, [0.5, 0.5], [0.5, 0.5])
        tried(tmp_path, "lora", 0.1, [0.9], [0.9])
        make_run(tmp_path, seed=1, state="failed", **{RATE: 0.1})
        make_run(tmp_path, seed=0, state="failed", **{RATE: 1.0})
        report = build_report([tmp_path], tuned=["learning_rate"])
        assert labels(report) == ["lora, learning_rate=0.001"]
        text = markdown(report.tables, report.records)
        assert "90.00 (1; 1 failed)" in text and "1 failed" in text.split("Choice of learning_rate")[1]

    def test_lower_can_be_better_and_nan_is_never_best(self, tmp_path: Path) -> None:
        for rate, loss in ((0.001, 0.4), (0.01, 0.2), (0.1, float("nan"))):
            result = {"higher_is_better": False, "best": moment(loss, loss), "last": moment(loss, loss)}
            make_run(tmp_path, result=result, **{RATE: rate})
        assert labels(build_report([tmp_path], tuned=["learning_rate"])) == ["lora, learning_rate=0.01"]

    def test_only_otherwise_equal_settings_compete(self, tmp_path: Path) -> None:
        for rank in (4, 8):
            for rate in (0.001, 0.01):
                tried(tmp_path, "lora", rate, [rank / 10 - rate], [0.5], method__rank=rank)
        make_run(tmp_path, method="probe")
        found = labels(build_report([tmp_path], tuned=["learning_rate"]))
        assert found == ["lora, learning_rate=0.001, rank=4", "lora, learning_rate=0.001, rank=8", "probe"]

    def test_two_keys_are_chosen_jointly(self, tmp_path: Path) -> None:
        for rank, rate, select in ((4, 0.1, 0.5), (4, 0.2, 0.6), (8, 0.1, 0.9), (8, 0.2, 0.1)):
            tried(tmp_path, "lora", rate, [select], [0.5], method__rank=rank)
        found = labels(build_report([tmp_path], tuned=["learning_rate", "rank"]))
        assert found == ["lora, learning_rate=0.1, rank=8"]

    def test_tasks_choose_for_themselves_and_share_a_row(self, tmp_path: Path) -> None:
        for task, best in (("glue/rte", 0.1), ("glue/mrpc", 0.2)):
            for rate in (0.1, 0.2):
                tried(tmp_path, "lora", rate, [0.9 if rate == best else 0.5], [rate], task=task)
        report = build_report([tmp_path], tuned=["learning_rate"])
        (row,) = report.tables[0].rows
        assert row.label == "lora" and {t: g.best.mean for t, g in row.groups.items()} == {
            "glue/rte": 0.1,
            "glue/mrpc": 0.2,
        }  # type: ignore[union-attr]

    @pytest.mark.parametrize(
        ("key", "message"),
        [("learning_rat", "did you mean trainer.learning_rate"), ("epochs", "nothing can be chosen")],
    )
    def test_a_key_that_cannot_be_tuned_is_named(
        self, grid: Path, capsys: pytest.CaptureFixture[str], key: str, message: str
    ) -> None:
        assert main([str(grid), "--tuned", key, "--out", str(grid / "out")]) == 2
        assert message in capsys.readouterr().err

    def test_runs_without_a_selection_score_are_named(self, tmp_path: Path) -> None:
        for rate in (0.1, 0.2):
            make_run(tmp_path, result={"best": moment(None, 0.5)}, **{RATE: rate})
        with pytest.raises(DataError, match="no accuracy on the selection split"):
            build_report([tmp_path], tuned=["learning_rate"])


def generation_run(root: Path, method: str, seed: int, shift: float, **changes: Any) -> Path:
    """A run of a generation task that also evaluated nq_open, with per-example likelihoods."""
    scores = {"answer_likelihood": 0.5 + shift, "exact_match": 0.25}
    scores |= {"nq_open_answer_likelihood": 0.1 - shift, "nq_open_exact_match": 0.0}
    best = {"step": 5, "epoch": 1.0, "select": {"answer_likelihood": 0.4 + shift}, "test": scores}
    task = {"task__metric": "answer_likelihood", "task__select_by": "answer_likelihood"}
    task["task__also_evaluate"] = {"nq_open": {"family": "open_qa"}}
    result = {"metric": "answer_likelihood", "best": best, "last": best}
    path = make_run(root, task="gsm8k", method=method, seed=seed, result=result, **task, **changes)
    for split, sign in (("test", -1), ("nq_open", 1)):
        rows = [
            {
                "id": f"{i}",
                "exact_match": float(i == 0),
                "answer_nll": 2 + i / 40 + sign * shift * i,
                "answer_tokens": 3,
            }
            | ({"score": float(i == 0)} if split == "test" else {})
            for i in range(40)
        ]
        (path / "predictions").mkdir(exist_ok=True)
        (path / "predictions" / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return path


class TestMetrics:
    METRICS = ("answer_likelihood", "exact_match", "nq_open_answer_likelihood")

    @pytest.fixture
    def runs(self, tmp_path: Path) -> Path:
        for seed in (0, 1, 2):
            generation_run(tmp_path, "lora", seed, 0.001 * seed)
            generation_run(tmp_path, "kasa", seed, 0.05 + 0.001 * seed * seed)
            generation_run(tmp_path, "lora", seed, -0.1, method__label="base", trainer__epochs=0.0)
        return tmp_path

    def test_each_metric_is_a_column_and_metrics_of_one_run_are_not_averaged(self, runs: Path) -> None:
        report = build_report([runs], metrics=self.METRICS)
        header = next(
            line for line in markdown(report.tables, report.records).splitlines() if line.startswith("| Method")
        )
        columns = [cell.strip() for cell in header.split("|")[2:6]]
        assert columns == [
            "gsm8k (answer_likelihood)",
            "gsm8k (exact_match)",
            "nq_open (answer_likelihood)",
            "Trainable",
        ]
        kasa = next(row for row in report.tables[0].rows if row.label == "kasa")
        assert kasa.groups["nq_open (answer_likelihood)"].best.values == pytest.approx((0.05, 0.049, 0.046))  # type: ignore[union-attr]

    def test_examples_are_tested_by_the_metric_of_their_column(self, runs: Path) -> None:
        (table,) = build_report([runs], metrics=self.METRICS).tables
        tests = {c.task: c.examples for c in table.comparisons if c.label == "kasa"}
        assert {task: test.name for task, test in tests.items() if test} == {
            "gsm8k (answer_likelihood)": "bootstrap",
            "gsm8k (exact_match)": "McNemar",
            "nq_open (answer_likelihood)": "bootstrap",
        }
        assert tests["gsm8k (answer_likelihood)"].p < 0.01 and tests["gsm8k (exact_match)"].p == 1.0  # type: ignore[union-attr]
        assert all(test is None or (test.examples, test.seeds) == (40, 3) for test in tests.values())

    def test_without_the_option_the_own_metric_is_tested_on_the_own_split(self, runs: Path) -> None:
        (table,) = build_report([runs]).tables
        test = next(c.examples for c in table.comparisons if c.label == "kasa")
        assert table.metrics == {"gsm8k": "answer_likelihood"} and test is not None
        assert (test.name, test.examples) == ("bootstrap", 40)

    def test_a_label_is_a_reference_of_its_own_and_each_reference_is_corrected_for_itself(self, runs: Path) -> None:
        (table,) = build_report([runs], reference="lora,base", metrics=["answer_likelihood"]).tables
        assert [row.label for row in table.rows] == ["lora", "base", "kasa"]
        pairs = [(c.label, c.reference_label) for c in table.comparisons]
        assert pairs == [("kasa", "lora"), ("lora", "base"), ("kasa", "base")]
        assert table.comparisons[0].p_holm == table.comparisons[0].difference.p

    def test_epochs_are_shown_as_chosen_by_the_selecting_metric(self, runs: Path) -> None:
        from kasa_corda.report.records import read_runs

        frame = runs_frame(read_runs([runs]))
        assert set(frame["select_metric"]) == {"answer_likelihood"} and frame["select_score"].between(0.3, 0.5).all()

    def test_all_formats_are_written_with_curves_drawn_once(self, runs: Path, tmp_path: Path) -> None:
        for path in runs.rglob("status.json"):
            (path.parent / "metrics.jsonl").write_text('{"event": "train", "step": 1, "task_loss": 1.0}\n')
        report = build_report([runs], metrics=self.METRICS)
        write_report(report, tmp_path / "out")
        assert (tmp_path / "out" / "report.html").read_text().count("Training loss (task part) by step") == 1

    def test_a_metric_that_no_run_has_is_named(self, runs: Path) -> None:
        with pytest.raises(ConfigError, match="did you mean exact_match"):
            build_report([runs], metrics=["exact_mach"])


def test_scores_below_one_in_a_hundred_have_a_third_decimal(tmp_path: Path) -> None:
    for seed, score in enumerate((0.0036, 0.0041)):
        make_run(tmp_path, score, seed=seed)
        make_run(tmp_path, score + 0.0004, method="kasa", seed=seed)
    text = markdown(build_report([tmp_path]).tables, [])
    assert "0.385 ± 0.035 (2)" in text and "+0.040 [+0.040, +0.040]" in text
