"""Score against cost: which rows stand on the front, and where the report shows it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_runs import make_run

from kasa_corda.report import build_report, write_report
from kasa_corda.report.html import page
from kasa_corda.report.pareto import Point, front, front_grid
from kasa_corda.report.render import markdown


def costing(trainable: int, fit: float) -> dict:
    return {"parameters": {"trainable": trainable, "total": 10**6}, "seconds": {"fit": fit, "total": fit + 1}}


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """probe is cheapest, lora best, vera between them, houlsby dearer and worse than lora, ia3 slow but small."""
    make_run(tmp_path, 0.50, method="probe", result=costing(100, 1.0))
    make_run(tmp_path, 0.60, method="vera", result=costing(1_000, 3.0))
    make_run(tmp_path, 0.70, method="lora", result=costing(10_000, 2.0))
    make_run(tmp_path, 0.65, method="houlsby", result=costing(20_000, 2.5))
    make_run(tmp_path, 0.55, method="ia3", result=costing(500, 9.0))
    return tmp_path


def test_the_front_has_the_rows_that_no_other_beats_in_score_and_cost(runs: Path) -> None:
    (table,) = build_report([runs]).tables
    texts = {row[1].text: row[2].text for row in front_grid(table)[1]}
    assert texts == {
        "trainable parameters": "probe 50.00 (100); ia3 55.00 (500); vera 60.00 (1.00 K); lora 70.00 (10.00 K)",
        "seconds of training": "probe 50.00 (1.0 s); lora 70.00 (2.0 s)",
    }


def test_markdown_page_and_files_show_it(runs: Path, tmp_path: Path) -> None:
    report = build_report([runs])
    assert "ia3 55.00 (500); vera" in markdown(report.tables, report.records)
    text = page(report.tables, report.records)
    assert "accuracy against trainable parameters" in text and "accuracy against seconds of training" in text
    written = write_report(report, tmp_path / "out", ["svg"])
    assert [path.name for path in written] == ["pareto-1-glue-rte-parameters.svg", "pareto-1-glue-rte-training.svg"]
    assert all(path.read_text().startswith('<svg xmlns="http://www.w3.org/2000/svg"') for path in written)
    assert all(name in written[0].read_text() for name in ("probe", "houlsby", "lora"))


def test_a_table_of_more_rows_than_colours_has_no_curves_but_keeps_its_cost_plots(tmp_path: Path) -> None:
    events = [{"event": "train", "step": 1, "loss": 1.0}]
    for number in range(21):
        make_run(tmp_path, 0.5 + number / 100, method=f"m{number:02}", events=events, result=costing(100 + number, 1.0))
    report = build_report([tmp_path])
    text = page(report.tables, report.records)
    assert "against trainable parameters" in text and "Training loss (task part)" not in text
    assert "No training curves for 1 tasks" in text


def test_one_row_has_no_front_and_equal_rows_both_stand_on_it(tmp_path: Path) -> None:
    make_run(tmp_path / "one", 0.5, method="lora")
    (table,) = build_report([tmp_path / "one"]).tables
    assert front_grid(table)[1] == []
    same = [Point(0, "a", 1.0, 0.5, None), Point(1, "b", 1.0, 0.5, None)]
    assert front(same) == same


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 6), st.integers(0, 6)), min_size=1, max_size=12), st.booleans())
def test_a_point_is_on_the_front_exactly_if_nothing_dominates_it(values: list, higher: bool) -> None:
    points = [Point(i, str(i), float(cost), score / 10, None) for i, (cost, score) in enumerate(values)]
    sign = 1 if higher else -1

    def dominated(p: Point) -> bool:
        return any(
            q.cost <= p.cost and sign * q.score >= sign * p.score and (q.cost, q.score) != (p.cost, p.score)
            for q in points
        )

    assert {p.index for p in front(points, higher)} == {p.index for p in points if not dominated(p)}
