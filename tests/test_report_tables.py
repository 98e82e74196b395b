"""The tables of the report: bold beyond noise, cells with failures, paired comparisons checked by hand."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
import scipy.stats
from synthetic_runs import make_run, make_scores, only_table

from kasa_corda.errors import ConfigError
from kasa_corda.report import build_report
from kasa_corda.report.html import page
from kasa_corda.report.render import latex, markdown


class TestTables:
    CLEAR = {"lora": [0.50, 0.52, 0.49], "kasa": [0.60, 0.63, 0.60]}

    def test_best_is_bold_only_beyond_noise(self, tmp_path: Path) -> None:
        make_scores(tmp_path / "clear", self.CLEAR)
        make_scores(tmp_path / "noise", {"lora": [0.50, 0.52, 0.49], "kasa": [0.49, 0.56, 0.50]})
        make_scores(tmp_path / "few", {"lora": [0.50, 0.52], "kasa": [0.90, 0.9201]})
        clear, noise, few = (only_table(tmp_path / name) for name in ("clear", "noise", "few"))
        assert {row.label: row.best_on for row in clear.rows} == {"lora": set(), "kasa": {"glue/rte"}}
        assert not any(row.best_on for table in (noise, few) for row in table.rows)
        assert "**60.00" not in markdown([noise], []) and "**61.00 ± 1.73 (3)**" in markdown([clear], [])
        assert r"\textbf{61.00 $\pm$ 1.73 (3)}" in latex([clear])
        assert "<strong>61.00 ± 1.73 (3)</strong>" in page([clear], [])

    def test_lower_can_be_better(self, tmp_path: Path) -> None:
        make_scores(tmp_path, self.CLEAR, result={"higher_is_better": False})
        table = only_table(tmp_path)
        assert {row.label: row.best_on for row in table.rows} == {"lora": {"glue/rte"}, "kasa": set()}
        assert table.comparisons[0].verdict == "worse"

    def test_cells_say_seeds_and_failures(self, tmp_path: Path) -> None:
        make_scores(tmp_path, {"lora": [0.5], "kasa": [0.6, 0.7]})
        make_run(tmp_path, method="kasa", seed=2, state="failed")
        make_run(tmp_path, method="full", state="failed")
        text = markdown([only_table(tmp_path)], [])
        assert "50.00 (1)" in text and "65.00 ± 7.07 (2; 1 failed)" in text and "| 1 failed" in re.sub(" +", " ", text)

    def test_average_needs_every_task(self, tmp_path: Path) -> None:
        make_scores(tmp_path, {"lora": [0.5], "kasa": [0.6]})
        make_run(tmp_path, 0.7, task="glue/mrpc")
        rows = {row.label: row for row in only_table(tmp_path).rows}
        assert rows["lora"].average(["glue/rte", "glue/mrpc"], "best") == pytest.approx(0.6)
        assert rows["kasa"].average(["glue/rte", "glue/mrpc"], "best") is None

    def test_comparison_to_the_reference_by_hand(self, tmp_path: Path) -> None:
        make_scores(tmp_path, {**self.CLEAR, "full": [0.51, 0.50, 0.50]})
        table = only_table(tmp_path)
        kasa = next(c for c in table.comparisons if c.label == "kasa")
        tests = {
            name: scipy.stats.ttest_rel(values, self.CLEAR["lora"]).pvalue
            for name, values in {"kasa": self.CLEAR["kasa"], "full": [0.51, 0.50, 0.50]}.items()
        }
        assert kasa.difference.mean == pytest.approx(0.32 / 3) and kasa.difference.n == 3
        assert kasa.difference.p == pytest.approx(tests["kasa"]) and kasa.p_holm == pytest.approx(2 * tests["kasa"])
        assert kasa.verdict == "better" and kasa.examples is None
        assert {c.label: c.verdict for c in table.comparisons}["full"] == "no difference shown"

    def test_examples_are_paired_with_mcnemar(self, tmp_path: Path) -> None:
        make_run(tmp_path, 0.2, right=[0.0] * 8 + [1.0] * 2)
        make_run(tmp_path, 0.9, method="kasa", right=[1.0] * 9 + [0.0])
        (comparison,) = only_table(tmp_path).comparisons
        test = comparison.examples
        assert test is not None and (test.name, test.examples, test.seeds) == ("McNemar", 10, 1)
        assert test.p == pytest.approx(scipy.stats.binomtest(8, 9).pvalue)
        assert comparison.verdict == "too few seeds"

    def test_a_difference_the_examples_do_not_support_is_said_so(self, tmp_path: Path) -> None:
        for method, values in self.CLEAR.items():
            for seed, score in enumerate(values):
                right = [1.0] * (6 if method == "kasa" else 5) + [0.0] * 4
                make_run(tmp_path, score, method=method, seed=seed, right=[*right, 0.0][:10])
        (comparison,) = only_table(tmp_path).comparisons
        assert comparison.verdict == "better over seeds, not over examples"

    def test_scores_that_are_not_right_or_wrong_are_bootstrapped(self, tmp_path: Path) -> None:
        for seed in (0, 1):
            make_run(tmp_path, 0.2, seed=seed, right=[-0.5 - 0.01 * i for i in range(30)])
            make_run(tmp_path, 0.9, method="kasa", seed=seed, right=[-0.1 - 0.013 * i for i in range(28)])
        (comparison,) = only_table(tmp_path).comparisons
        test = comparison.examples
        assert test is not None and (test.name, test.examples, test.seeds) == ("bootstrap", 28, 2) and test.p < 0.001

    def test_other_data_than_the_reference_is_remarked(self, tmp_path: Path) -> None:
        make_run(tmp_path)
        make_run(tmp_path, method="kasa", result={"data": {"fingerprint": "other"}})
        assert only_table(tmp_path).comparisons[0].remark == "the two were run on different data"

    def test_an_unknown_reference_is_an_error_only_if_asked_for(self, tmp_path: Path) -> None:
        make_run(tmp_path, method="kasa")
        assert only_table(tmp_path).comparisons == []
        with pytest.raises(ConfigError, match="did you mean kasa"):
            build_report([tmp_path], reference="kaza")

    def test_a_score_that_is_not_a_number_is_shown_and_never_best(self, tmp_path: Path) -> None:
        make_scores(tmp_path, self.CLEAR)
        make_scores(tmp_path, {"full": [0.9, math.nan]})
        table = only_table(tmp_path)
        assert "nan (2)" in markdown([table], []) and "nan" in latex([table])
        assert [row.label for row in table.rows if row.best_on] == ["kasa"]
        assert {c.label: c.verdict for c in table.comparisons}["full"] == "not testable"
