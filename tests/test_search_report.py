"""Searches in the run store and in reports: families, what is chosen, rows at either learning rate, curves, files."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from search_runs import RATE, fresh, trials
from synthetic_runs import make_run

from kasa_corda.config.run_id import early
from kasa_corda.config.schema import EvaluatorConfig
from kasa_corda.errors import DataError
from kasa_corda.report import Report, build_report, write_report
from kasa_corda.report.console import print_run, print_sweep
from kasa_corda.report.frames import long_frame, runs_frame
from kasa_corda.report.grids import choice_grid
from kasa_corda.report.learning_rates import curve_of, learning_rate_curves
from kasa_corda.report.records import read_runs
from kasa_corda.report.render import latex, markdown
from kasa_corda.search import Family, families

LORA = {3.16e-5: [0.5, 0.5], 1e-4: [0.6, 0.6], 3.16e-4: [0.7, 0.8], 1e-3: [0.7, 0.6], 3.16e-3: [0.4, None]}
REFINED = {1.78e-4: [0.6, 0.7], 5.62e-4: [0.7, 0.9]}
METHOD = {"method__alpha": 16.0}


def searched(root: Path, **options: object) -> None:
    """LoRA's search, its fresh runs at the rate it chose (5.62e-4), and fresh runs at another rate, the paper's."""
    trials(root, LORA | REFINED, **METHOD, **options)
    fresh(root, 5.62e-4, [0.81, 0.83], **METHOD, **options)
    fresh(root, 4e-4, [0.71, 0.72], **METHOD, **options)


def only(root: Path) -> Family:
    (found,) = families(read_runs([root]))
    return found


class TestFamilies:
    def test_trials_choice_and_fresh_runs_of_one_setting_belong_together(self, tmp_path):
        searched(tmp_path)
        family = only(tmp_path)
        assert family.trials == {
            rate: [s for s in by if s is not None] for rate, by in sorted((LORA | REFINED).items())
        }
        assert (family.method, family.metric, family.chosen) == ("lora", "accuracy", 5.62e-4)
        assert family.complete and not family.extended and not family.at_edge and family.note == ""
        assert [run.score for run in family.fresh] == [0.81, 0.83]
        assert [run.score for run in family.at(0.0004)] == [0.71, 0.72] and family.at(1e-4) == []
        assert (family.alpha_rule, family.scale) == ("fixed 16", 2.0)
        assert "trainer.learning_rate" not in family.settings and "evaluator.test" not in family.settings

    def test_a_seed_that_chose_is_never_fresh(self, tmp_path):
        searched(tmp_path)
        fresh(tmp_path, 5.62e-4, [0.99], first=1, **METHOD)
        assert [run.seed for run in only(tmp_path).fresh] == [100, 101]

    def test_a_rate_with_a_failed_seed_is_not_chosen_and_ties_go_to_the_smaller(self, tmp_path):
        trials(tmp_path, {1e-4: [0.5, 0.5], 3.16e-4: [0.5, 0.5], 1e-3: [0.9, None]})
        assert only(tmp_path).chosen == 1e-4

    def test_an_unfinished_search_says_so_and_unfinished_rates_do_not_count(self, tmp_path):
        trials(tmp_path, {rate: scores for rate, scores in LORA.items() if rate < 3e-3})
        make_run(tmp_path, state="running", **{RATE: 3.16e-3, "evaluator__test": False})
        family = only(tmp_path)
        assert (family.open, family.complete, family.note) == (1, False, "search not finished")
        assert 3.16e-3 not in family.merits and family.chosen == 3.16e-4

    def test_an_extension_and_an_edge_are_told(self, tmp_path):
        rates = (3.16e-5, 1e-4, 3.16e-4, 1e-3, 3.16e-3, 1e-2, 3.16e-2, 1e-1, 5.62e-2, 1.78e-1)
        trials(tmp_path, {rate: [rate] for rate in rates})
        family = only(tmp_path)
        assert (family.extended, family.extensions, family.at_edge, family.complete) == (True, 3, True, True)
        assert family.note == "window extended, 3 trials; at the edge"

    def test_settings_without_a_search_are_families_too(self, tmp_path):
        fresh(tmp_path, 1e-3, [0.5])
        family = only(tmp_path)
        assert (family.trials, family.chosen, family.fresh, family.complete) == ({}, None, [], False)
        assert [run.score for run in family.at(1e-3)] == [0.5]

    def test_other_ranks_tasks_and_labels_are_other_families(self, tmp_path):
        for options in ({}, {"method__rank": 4}, {"task": "glue/cola"}, {"method__label": "mine"}):
            trials(tmp_path, {1e-4: [0.5]}, **options)
        assert len(families(read_runs([tmp_path]))) == 4

    def test_a_loss_that_selects_is_better_lower(self, tmp_path):
        for rate, value in ((1e-4, 3.0), (1e-3, 2.0)):
            moment = {"step": 1, "epoch": 1.0, "select": {"perplexity": value}, "test": {}}
            result = {"best": moment, "last": moment, "metric": "accuracy", "tested": False}
            make_run(tmp_path, result=result, **{RATE: rate, "evaluator__test": False, "task__select_by": "perplexity"})
        assert only(tmp_path).chosen == 1e-3


class TestRecords:
    def test_an_untested_run_is_finished_without_a_score(self, tmp_path):
        trials(tmp_path, {1e-4: [0.5]})
        (record,) = read_runs([tmp_path])
        assert (record.state, record.tested, record.score, record.select_score) == ("finished", False, None, 0.5)

    def test_a_tested_run_without_a_score_stays_damaged(self, tmp_path):
        make_run(tmp_path, result={"best": {"select": {}, "test": {}}})
        (record,) = read_runs([tmp_path])
        assert (record.state, record.tested) == ("damaged", True)

    def test_frames_have_it_without_a_score(self, tmp_path):
        searched(tmp_path)
        records = read_runs([tmp_path])
        frame = runs_frame(records)
        assert frame[~frame["tested"]]["score"].isna().all() and (~frame["tested"]).sum() == 14
        assert set(long_frame(r for r in records if not r.tested)["split"]) == {"select"}

    def test_the_key_leaves_earlier_run_ids_alone(self):
        given = {"name": "classification", "batch_size": 64}
        assert early({**given, "test": True}, EvaluatorConfig) == given
        assert early({**given, "test": False}, EvaluatorConfig)["test"] is False


def labels(report: Report) -> list[str]:
    return [row.label for table in report.tables for row in table.rows]


class TestReport:
    def test_trials_are_no_rows_of_a_plain_report(self, tmp_path):
        searched(tmp_path)
        report = build_report([tmp_path])
        assert labels(report) == ["lora, learning_rate=0.0004", "lora, learning_rate=0.000562"]
        assert report.summary_frame()["n"].tolist() == [2, 2] and len(report.records) == 18

    def test_a_tuned_report_has_a_row_at_either_learning_rate(self, tmp_path):
        searched(tmp_path)
        report = build_report([tmp_path], tuned=["learning_rate"])
        rows = {row.label: row.groups["glue/rte"] for row in report.tables[0].rows}
        assert set(rows) == {
            "lora, tuned lr, learning_rate=0.000562",
            "lora, paper lr, learning_rate=0.0004",
        }
        assert rows["lora, tuned lr, learning_rate=0.000562"].best.mean == pytest.approx(0.82)

    def test_rows_go_over_tasks_whose_rates_differ(self, tmp_path):
        searched(tmp_path)
        trials(tmp_path, LORA | {5.62e-5: [0.6, 0.6], 1.78e-4: [0.95, 0.9]}, task="glue/cola", **METHOD)
        fresh(tmp_path, 1.78e-4, [0.4], task="glue/cola", **METHOD)
        fresh(tmp_path, 5e-4, [0.3], task="glue/cola", **METHOD)
        report = build_report([tmp_path], tuned=["learning_rate"])
        rows = {row.label: row.groups for row in report.tables[0].rows}
        assert set(rows) == {"lora, tuned lr", "lora, paper lr"}
        assert all(set(groups) == {"glue/rte", "glue/cola"} for groups in rows.values())
        assert rows["lora, tuned lr"]["glue/cola"].scores() == {100: 0.4}
        assert not any("settings that differ by task" in note for note in report.tables[0].notes)

    def test_the_choice_table_shows_every_trial_alphas_rule_and_what_is_to_be_known(self, tmp_path):
        searched(tmp_path)
        report = build_report([tmp_path], tuned=["learning_rate"])
        header, rows = choice_grid(report.tables[0])
        assert header == ["Task", "Method", "learning_rate", "alpha", "Selection split (accuracy)", "Chosen"]
        texts = [[cell.text for cell in row] for row in rows]
        assert len(texts) == 7 and [row[-1] for row in texts].count("yes") == 1
        assert ["glue/rte", "lora", "0.000562", "fixed 16, scale 2", "80.00 ± 14.14 (2)", "yes"] in texts
        assert "fixed 16, scale 2" in markdown(report.tables, report.records) + latex(report.tables)

    def test_tuned_rows_are_compared_with_tuned_ones_and_paper_rows_with_paper_ones(self, tmp_path):
        searched(tmp_path)
        searched(tmp_path, method="kasa")
        (table,) = build_report([tmp_path], tuned=["learning_rate"]).tables
        compared = [(c.label.split(",")[1], c.reference_label.split(",")[1]) for c in table.comparisons]
        assert sorted(compared) == [(" paper lr", " paper lr"), (" tuned lr", " tuned lr")]

    def test_nothing_is_chosen_of_a_search_without_a_finished_trial(self, tmp_path):
        trials(tmp_path, {1e-4: [None], 1e-3: [None]}, method="pissa")
        searched(tmp_path)
        fresh(tmp_path, 2e-4, [0.5], method="pissa")
        report = build_report([tmp_path], tuned=["learning_rate"])
        assert {choice.chosen.first.method for row in report.tables[0].rows for choice in row.choices} == {"lora"}
        assert "pissa" in labels(report)

    def test_columns_of_several_metrics_leave_the_trials_out(self, tmp_path):
        searched(tmp_path)
        report = build_report([tmp_path], tuned=["learning_rate"], metrics=["accuracy"])
        assert labels(report) == ["lora, paper lr, learning_rate=0.0004", "lora, tuned lr, learning_rate=0.000562"]
        assert [len(row.choices) for row in report.tables[0].rows] == [0, 1]

    def test_page_and_files_hold_the_learning_rate_curve(self, tmp_path):
        searched(tmp_path)
        report = build_report([tmp_path], tuned=["learning_rate"])
        written = write_report(report, tmp_path / "out", ["html", "svg", "csv"])
        assert "learning-rates-1-glue-rte.svg" in {path.name for path in written}
        assert "Selection score by learning rate" in (tmp_path / "out" / "report.html").read_text()

    def test_a_curve_has_mean_spread_and_number_of_every_rate_that_worked(self, tmp_path):
        searched(tmp_path)
        points = {point.rate: point for point in curve_of(only(tmp_path))}
        assert set(points) == set(LORA | REFINED)
        assert (points[1e-3].mean, points[1e-3].n) == (pytest.approx(0.65), 2)
        assert points[1e-3].std == pytest.approx(0.0707, abs=1e-4) and points[3.16e-3].std is None
        svg = learning_rate_curves(families(read_runs([tmp_path])))
        assert svg.startswith("<svg") and "learning rate" in svg and "accuracy x 100" in svg
        fresh(tmp_path / "other", 1e-3, [0.5])
        assert learning_rate_curves(families(read_runs([tmp_path / "other"]))) == ""


class TestSurroundings:
    def test_the_console_shows_a_trial_without_test_scores(self, tmp_path, capsys):
        (path,) = trials(tmp_path, {1e-4: [0.5]})
        print_run(json.loads((path / "result.json").read_text()), path)
        print_sweep([{"state": "finished", "score": None, "metric": "accuracy"}])
        told = capsys.readouterr().out
        assert "50.00" in told and "not evaluated on the test set" in told

    def test_what_a_run_forgets_is_not_measured_either(self):
        from kasa_corda.evaluation.forgetting import before_training

        config = SimpleNamespace(evaluator=SimpleNamespace(forgetting=["nq_open"], test=False))
        assert before_training(config, None, None, None, None, None) == {}

    def test_a_card_says_that_nothing_was_tested(self, tmp_path):
        from kasa_corda.card import write_card

        (path,) = trials(tmp_path, {1e-4: [0.5]})
        result = json.loads((path / "result.json").read_text()) | {
            "method": "lora",
            "run_id": "x",
            "selection": "held_out",
        }
        config = {"model": {"hub_id": None, "name": "minilm", "approximation": None}}
        write_card(tmp_path, result, config)
        assert "not evaluated on the test set" in (tmp_path / "README.md").read_text()

    def test_judging_a_run_without_answers_says_so(self, tmp_path):
        from kasa_corda.evaluation.judge.later import judge_run
        from kasa_corda.store import RunDirectory

        (path,) = trials(tmp_path, {1e-4: [0.5]})
        with pytest.raises((DataError, Exception), match="no answers"):
            judge_run(RunDirectory(path), SimpleNamespace(), None, SimpleNamespace())
