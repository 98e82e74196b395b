"""What the report reads and computes: statistics, damaged directories, and runs that must never be merged."""

from __future__ import annotations

import math
import socket
from pathlib import Path
from typing import Any

import pytest
import scipy.stats
import yaml
from synthetic_runs import make_run, make_scores, only_table

from kasa_corda.errors import DataError
from kasa_corda.report import build_report
from kasa_corda.report.frames import runs_frame
from kasa_corda.report.groups import build_groups
from kasa_corda.report.html import page
from kasa_corda.report.records import parse_config, read_runs
from kasa_corda.report.render import latex, markdown
from kasa_corda.report.statistics import (
    combine_dependent,
    holm,
    mcnemar,
    paired_bootstrap,
    paired_difference,
    summarise,
)
from kasa_corda.report.tables import build_tables


class TestStatistics:
    VALUES = (0.61, 0.64, 0.58, 0.66)
    OTHERS = (0.60, 0.61, 0.59, 0.60)

    def test_mean_std_and_interval_are_those_of_scipy(self) -> None:
        summary = summarise(self.VALUES)
        low, high = scipy.stats.t.interval(0.95, 3, summary.mean, scipy.stats.sem(self.VALUES))
        assert summary.mean == pytest.approx(0.6225)
        assert summary.std == pytest.approx(scipy.stats.tstd(self.VALUES))
        assert (summary.low, summary.high) == (pytest.approx(low), pytest.approx(high))

    def test_one_seed_has_no_std_and_no_interval(self) -> None:
        summary = summarise([0.5])
        assert (summary.n, summary.mean, summary.std, summary.low) == (1, 0.5, None, None)

    def test_a_score_that_is_not_a_number_is_not_averaged_away(self) -> None:
        assert math.isnan(summarise([0.5, math.nan]).mean)

    def test_paired_difference_uses_common_seeds_only(self) -> None:
        ours = dict(enumerate(self.VALUES)) | {9: 0.0}
        reference = dict(enumerate(self.OTHERS)) | {7: 1.0}
        paired = paired_difference(ours, reference)
        test = scipy.stats.ttest_rel(self.VALUES, self.OTHERS)
        interval = test.confidence_interval(0.95)
        assert paired is not None and paired.n == 4
        assert paired.p == pytest.approx(test.pvalue)
        assert (paired.low, paired.high) == (pytest.approx(interval.low), pytest.approx(interval.high))

    def test_equal_differences_leave_no_spread_to_judge_by(self) -> None:
        same = paired_difference({0: 0.3, 1: 0.6, 2: 0.7}, {0: 0.2, 1: 0.5, 2: 0.6})
        zero = paired_difference({0: 0.3, 1: 0.6}, {0: 0.3, 1: 0.6})
        assert same is not None and same.p is None
        assert zero is not None and zero.p == 1.0
        assert paired_difference({0: 1.0}, {1: 1.0}) is None

    def test_mcnemar_is_the_exact_binomial_test(self) -> None:
        for ours in range(9):
            for other in range(9):
                expected = scipy.stats.binomtest(ours, ours + other).pvalue if ours + other else 1.0
                assert mcnemar(ours, other) == pytest.approx(expected)

    def test_dependent_tests_combine_to_twice_the_median(self) -> None:
        assert combine_dependent([0.03]) == 0.03
        assert combine_dependent([0.01, 0.02, 0.9]) == pytest.approx(0.04)
        assert combine_dependent([0.9, 0.8]) == 1.0

    def test_bootstrap_agrees_with_the_t_test_on_many_examples(self) -> None:
        generator = scipy.stats.norm(0.05, 1.0)
        differences = generator.rvs(1000, random_state=3)
        p = paired_bootstrap(differences)
        assert p == pytest.approx(scipy.stats.ttest_1samp(differences, 0).pvalue, abs=0.03)
        assert p == paired_bootstrap(differences)
        assert paired_bootstrap([0.0] * 10) == 1.0

    def test_holm_by_hand(self) -> None:
        assert holm([0.01, None, 0.04, 0.03, math.nan])[:4] == [pytest.approx(0.03), None, pytest.approx(0.06), 0.06]
        assert holm([0.6, 0.7]) == [1.0, 1.0]


class TestRecords:
    def test_a_run_has_one_row_finished_or_not(self, tmp_path: Path) -> None:
        make_run(tmp_path, 0.75)
        make_run(tmp_path, method="kasa", state="failed", status={"error": "boom"})
        table = runs_frame(read_runs([tmp_path])).set_index("method")
        assert table.loc["lora", "score"] == 0.75 and table.loc["lora", "trainable"] == 1000
        assert table.loc["kasa", "state"] == "failed" and table.loc["kasa", "error"] == "boom"

    @pytest.mark.parametrize(
        ("damage", "message"),
        [
            (lambda p: (p / "result.json").write_text('{"best": '), "result.json is damaged"),
            (lambda p: (p / "result.json").write_text("[1]"), "result.json is damaged"),
            (lambda p: (p / "result.json").write_bytes(b"\xff\xfe\x00"), "result.json is damaged"),
            (lambda p: (p / "result.json").write_text('{"best": {"test": {}}}'), "no score best.test.accuracy"),
            (lambda p: (p / "result.json").unlink(), "result.json is missing"),
            (lambda p: (p / "status.json").write_text("{"), "status.json is damaged"),
            (lambda p: (p / "status.json").write_text('{"state": "dancing"}'), "unknown state 'dancing'"),
            (lambda p: (p / "config.yaml").unlink(), "config.yaml is missing"),
            (lambda p: (p / "config.yaml").write_text("a: [1"), ""),
            (lambda p: (p / "config.yaml").write_text("- 1"), ""),
            (lambda p: (p / "config.yaml").write_text("task: 1"), "not the config of a run"),
            (lambda p: (p / "config.yaml").write_text("task: {}\nmodel: {}\nmethod: {}"), ""),
        ],
    )
    def test_damage_is_reported_and_never_fatal(self, tmp_path: Path, damage: Any, message: str) -> None:
        damage(make_run(tmp_path, 0.9, method="kasa"))
        make_run(tmp_path, 0.5)
        records = {record.method: record for record in read_runs([tmp_path])}
        assert records["kasa"].state == "damaged" and message in str(records["kasa"].error)
        assert records["lora"].score == 0.5
        report = build_report([tmp_path])
        assert "damaged" in markdown(report.tables, report.records)

    def test_a_run_whose_process_is_gone_is_interrupted(self, tmp_path: Path) -> None:
        make_run(tmp_path, state="running", status={"pid": 2**22 + 1, "host": socket.gethostname()})
        make_run(tmp_path, method="kasa", state="running", status={"pid": 1, "host": "elsewhere"})
        assert sorted(record.state for record in read_runs([tmp_path])) == ["interrupted", "running"]

    def test_a_run_without_status_is_queued_and_other_folders_are_no_runs(self, tmp_path: Path) -> None:
        (make_run(tmp_path, state="queued") / "status.json").unlink()
        (tmp_path / "configs").mkdir()
        (tmp_path / "configs" / "config.yaml").write_text("defaults: [a]")
        (tmp_path / ".hydra").mkdir()
        (tmp_path / ".hydra" / "config.yaml").write_text("task: 1")
        assert [record.state for record in read_runs([tmp_path])] == ["queued"]

    def test_a_copied_run_counts_once(self, tmp_path: Path) -> None:
        for root in ("a", "b"):
            make_run(tmp_path / root, 0.5, name="000000000000")
        make_run(tmp_path / "c", name="000000000000", state="failed")
        records = read_runs([tmp_path, tmp_path / "a"])
        assert sorted(record.state for record in records) == ["duplicate", "duplicate", "finished"]
        (group,) = build_groups(records)
        assert group.n == 1 and not group.unfinished

    def test_a_missing_folder_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="nowhere"):
            read_runs([tmp_path / "nowhere"])

    def test_the_fast_yaml_reader_reads_what_yaml_reads(self) -> None:
        shared = [1, 2]
        value = {
            "seed": 1,
            "method": {"a": None, "targets": ["q", "v"], "text": "two\nlines: 1\n", "pattern": ".*q"},
            "long": "word " * 60,
            "top": ["x", "y"],
            "rate": 1e-5,
        }
        assert parse_config(yaml.safe_dump(value, sort_keys=False)) == value
        assert parse_config(yaml.safe_dump({"a": shared, "b": shared})) == {"a": [1, 2], "b": [1, 2]}


class TestGroups:
    def test_seeds_are_merged(self, tmp_path: Path) -> None:
        make_scores(tmp_path, {"lora": [0.5, 0.6, 0.7]})
        (group,) = build_groups(read_runs([tmp_path]))
        assert group.best is not None and group.best.values == (0.5, 0.6, 0.7)
        assert group.seeds == [0, 1, 2] and group.mean("seconds", "total") == 11.0

    @pytest.mark.parametrize(
        ("key", "value", "shown"),
        [
            ("method.rank", 4, "rank=4"),
            ("method.target_modules", ["q", "v"], "target_modules=q+v"),
            ("trainer.learning_rate", 1e-4, "learning_rate=0.0001"),
            ("task.train_examples", 100, "train_examples=100"),
            ("evaluator", {"batch_size": 1}, "batch_size=1"),
        ],
    )
    def test_two_settings_are_two_rows_named_by_what_differs(
        self, tmp_path: Path, key: str, value: Any, shown: str
    ) -> None:
        make_run(tmp_path, 0.5)
        make_run(tmp_path, 0.7, seed=1, **{key: value})
        table = only_table(tmp_path)
        assert len(table.rows) == 2 and all(row.groups["glue/rte"].n == 1 for row in table.rows)
        assert any(shown in row.label for row in table.rows)

    @pytest.mark.parametrize(
        "key", ["trainer.log_every", "scale.threads", "run_root", "model.path", "method.learning_rate"]
    )
    def test_keys_that_cannot_change_a_result_do_not_split(self, tmp_path: Path, key: str) -> None:
        make_run(tmp_path, 0.5)
        make_run(tmp_path, 0.7, seed=1, **{key: 7})
        (row,) = only_table(tmp_path).rows
        assert row.label == "lora" and row.groups["glue/rte"].n == 2

    def test_an_unset_option_is_not_the_same_as_none(self, tmp_path: Path) -> None:
        make_run(tmp_path, 0.5)
        make_run(tmp_path, 0.7, seed=1, method__extra=None)
        assert {row.label for row in only_table(tmp_path).rows} == {"lora, extra=none", "lora, extra=unset"}

    @pytest.mark.parametrize("source", ["model_source", "data"])
    def test_other_weights_or_data_are_never_merged(self, tmp_path: Path, source: str) -> None:
        make_run(tmp_path, 0.5, result={source: {"fingerprint": "one"}})
        make_run(tmp_path, 0.7, seed=1, result={source: {"fingerprint": "two"}})
        table = only_table(tmp_path)
        assert len(table.rows) == 2 and "fingerprint=one" in " ".join(row.label for row in table.rows)

    def test_a_seeded_draw_of_training_data_is_merged(self, tmp_path: Path) -> None:
        for seed in (0, 1):
            make_run(tmp_path, 0.5, seed=seed, task__train_examples=10, result={"data": {"fingerprint": str(seed)}})
        (row,) = only_table(tmp_path).rows
        assert row.groups["glue/rte"].n == 2

    def test_variants_and_labels_are_rows_of_their_own(self, tmp_path: Path) -> None:
        make_run(tmp_path, method="kasa", method__variant="paper")
        make_run(tmp_path, method="kasa", method__variant="peft", seed=1)
        make_run(tmp_path, method="kasa", method__label="KaSA", method__variant="peft", seed=2)
        make_run(tmp_path, method="lora", method__label="KaSA", method__variant="peft", seed=2)
        labels = {row.label for row in only_table(tmp_path).rows}
        assert labels == {"kasa (paper)", "kasa (peft)", "KaSA [kasa] (peft)", "KaSA [lora] (peft)"}

    def test_selection_scale_and_approximate_weights_are_tables_of_their_own(self, tmp_path: Path) -> None:
        make_run(tmp_path)
        make_run(tmp_path, selection="paper")
        make_run(tmp_path, scale__name="paper")
        make_run(tmp_path, model__approximation="4-bit GGUF")
        tables = build_tables(read_runs([tmp_path]))
        assert len(tables) == 4
        for text in (markdown(tables, []), latex(tables), page(tables, [])):
            assert "optimistic" in text and "4-bit GGUF" in text and "approximate weights" in text

    def test_settings_that_differ_by_task_share_a_row_and_are_noted(self, tmp_path: Path) -> None:
        make_run(tmp_path, task="glue/rte")
        make_run(tmp_path, task="glue/mrpc", trainer__learning_rate=5e-4)
        table = only_table(tmp_path)
        assert [row.label for row in table.rows] == ["lora"]
        assert "learning_rate=0.0005" in table.notes[0] and "glue/mrpc" in table.notes[0]

    def test_mixed_devices_and_uneven_seeds_are_noted(self, tmp_path: Path) -> None:
        make_run(tmp_path, result={"provenance": {"device": "H100", "git": {"sha": "1", "dirty": True}}})
        make_run(tmp_path, seed=1)
        make_run(tmp_path, method="kasa")
        notes = " ".join(only_table(tmp_path).notes)
        assert "different devices: CPU, H100" in notes and "different commits" in notes
        assert "uncommitted" in notes and "same seeds on glue/rte" in notes


def test_a_key_that_came_later_separates_no_runs_while_it_is_at_its_default():
    from conftest import compose

    from kasa_corda.report.records import settings_of

    now = compose("task=gsm8k", "model=smollm2_135m", "method=lora")
    before = {**now, "task": {k: v for k, v in now["task"].items() if k not in ("num_beams", "few_shot")}}
    assert "num_beams" in now["task"] and settings_of(now) == settings_of(before)
    assert settings_of({**now, "task": {**now["task"], "num_beams": 4}}) != settings_of(before)
