"""Printed numbers beside ours."""

from __future__ import annotations

from typing import Any

import pytest
from test_verdicts_judge import BASE, MODEL, moved, record, runs

from kasa_corda.paper.published import Cell, read_published
from kasa_corda.report.records import Outcome
from kasa_corda.verdicts import beside
from kasa_corda.verdicts.beside import preferred


def cell(value: str, **options: Any) -> Cell:
    given = {"paper": "kasa", "table": "table1", "model": MODEL, "task": "glue/rte", "metric": "accuracy"} | options
    return Cell(**{"method": "lora", "parameters": None, "std": "", "source": "made", **given}, value=value)


class TestBeside:
    def test_a_printed_percent_stands_beside_our_fractions(self) -> None:
        (found,) = beside([cell("60.5")], runs("lora", BASE))
        assert found.mean == pytest.approx(60.34) and found.difference == pytest.approx(-0.16) and found.n == 5
        assert found.low < 60.34 < found.high and found.std == pytest.approx(0.650, abs=1e-3)  # type: ignore[operator]
        assert len(found.run_ids) == 5 and found.metric == "accuracy" and found.learning_rate == 1e-3

    def test_a_single_printed_run_need_not_lie_within_the_interval_of_our_mean(self) -> None:
        (found,) = beside([cell("61.8")], runs("lora", BASE))
        assert found.high < 61.8 < found.run_high and found.inside is True  # type: ignore[operator]
        assert beside([cell("63.0")], runs("lora", BASE))[0].inside is False

    def test_rounding_is_allowed_for(self) -> None:
        (found,) = beside([cell("60.5")], runs("lora", BASE))
        assert found.run_high == pytest.approx(62.3181, abs=1e-4)
        inside = {text: beside([cell(text)], runs("lora", BASE))[0].inside for text in ("62.32", "62.320", "62.4")}
        assert inside == {"62.32": True, "62.320": False, "62.4": False}

    def test_fractions_and_the_last_epoch_of_logs(self) -> None:
        last = [
            record("lora", seed, score, last=Outcome(2, 2.0, {}, {"accuracy": score - 0.1}))
            for seed, score in enumerate(BASE)
        ]
        (found,) = beside([cell("0.5", unit="fraction", setting="last epoch")], last)
        assert found.mean == pytest.approx(0.5034)

    def test_a_mean_is_over_the_printed_row_and_needs_all_of_it(self) -> None:
        row = [cell("60"), cell("70", task="glue/mrpc"), cell("65", task="mean:table1", metric="mean")]
        records = runs("lora", BASE) + runs("lora", moved(0.1), task="glue/mrpc")
        found = beside(row, records)[2]
        assert found.mean == pytest.approx(65.34) and found.n == 5 and len(found.run_ids) == 10
        assert found.std == pytest.approx(100 * 0.5 * _std([a + b for a, b in zip(BASE, moved(0.1), strict=True)]))
        assert beside(row, runs("lora", BASE))[2].notes == ("not run on glue/mrpc",)

    def test_conditions_of_the_cell_choose_the_runs(self) -> None:
        records = runs("lora", BASE) + runs("lora", moved(0.1), settings={"method.rank": 128})
        (found,) = beside([cell("70", where="method.rank=128")], records)
        assert found.mean == pytest.approx(70.34)

    def test_several_settings_are_told(self) -> None:
        records = runs("lora", BASE) + runs("lora", moved(0.1)[:2], settings={"method.rank": 128})
        (found,) = beside([cell("70")], records)
        assert found.mean == pytest.approx(60.34) and "2 settings of lora fit on glue/rte" in found.notes[-1]

    def test_an_unknown_number_still_shows_ours(self) -> None:
        (found,) = beside([cell("")], runs("lora", BASE))
        assert found.mean is not None and found.difference is None and found.inside is None

    def test_one_run_has_no_interval(self) -> None:
        (found,) = beside([cell("60")], runs("lora", BASE[:1]))
        assert (found.n, found.std, found.low, found.inside) == (1, None, None, None)

    def test_what_differs_from_the_published_setting_is_told(self) -> None:
        options = {
            "model": "roberta_base",
            "settings": {"trainer.learning_rate": 4e-4, "trainer.epochs": 3.0, "model.name": "roberta_base",
                         "method.variant": "authors_first", "trainer.batch_size": 32},
        }  # fmt: skip
        published = [
            one for one in read_published() if one.table == "glue_logs" and one.model == "roberta_base"
            and one.task == "glue/rte" and one.setting == "best epoch" and one.metric == "accuracy"
        ]  # fmt: skip
        (found,) = beside(published, runs("kasa", BASE, **options))
        assert found.n == 5 and any("epochs instead of 100 epochs" in words for words in found.deviations)
        assert not any("learning rate" in words for words in found.deviations)


class TestPreferred:
    def test_the_papers_own_number_is_used_then_the_authors_then_others(self) -> None:
        others, logs, own = cell("1", kind="third_party"), cell("2", kind="authors", table="logs"), cell("3")
        assert preferred([others, logs, own]) == [own]
        assert preferred([others, logs, cell("")]) == [logs]
        assert [one.used_for_verdict for one in beside([others, logs, own], [])] == [False, False, True]

    def test_different_numbers_do_not_compete(self) -> None:
        cells = [cell("1"), cell("2", where="method.rank=32"), cell("3", setting="last epoch"), cell("4", metric="f1")]
        assert len(preferred(cells)) == 4


def _std(values: list[float]) -> float:
    mean = sum(values) / len(values)
    return (sum((v - mean) ** 2 for v in values) / (len(values) - 1)) ** 0.5
