"""The page of verdicts: its numbers are those of the runs, nothing comes from outside, and it is always the same."""

from __future__ import annotations

import csv
import io
import re
import shutil
from pathlib import Path

import pytest
from made_runs import Made, make, pocket_runs
from paper_page import EVIL, Seen, material_of, results_of, seen, written

from kasa_corda.report.paper import build, chapters_of, write
from kasa_corda.report.paper.__main__ import main
from kasa_corda.report.paper.material import Material
from kasa_corda.report.paper.settings import places
from kasa_corda.report.paper.texts import safe
from kasa_corda.report.records import read_runs


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page")
    written(path)
    return path


@pytest.fixture(scope="module")
def material(folder: Path) -> Material:
    return material_of(folder / "runs", folder / "again.csv")


@pytest.fixture(scope="module")
def page(folder: Path) -> str:
    return (folder / "report" / "index.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def read(page: str) -> Seen:
    return seen(page)


def test_every_number_of_a_table_is_the_mean_of_its_runs(folder: Path, read: Seen) -> None:
    results = results_of([folder / "runs"])
    assert len(read.numbers) > 60
    assert {number.path[0] for number in read.numbers} >= {"best", "parameters", "seconds", "peak_memory_bytes"}
    for number in read.numbers:
        assert number.value == pytest.approx(number.again(results), rel=1e-9), number


def test_scores_are_shown_as_they_are_stored(read: Seen) -> None:
    scores = [n for n in read.numbers if n.path[0] == "best" and n.times == 1]
    assert scores
    for number in scores:
        assert float(re.split(r"[ ±]", number.text)[0]) == pytest.approx(100 * number.value, abs=0.00501)


def test_printed_numbers_stand_beside_ours_under_both_learning_rates(folder: Path) -> None:
    rows = list(csv.DictReader(io.StringIO((folder / "report" / "cells.csv").read_text())))
    ours = {(row["task"], row["method"], row["lr"], row["table"]): row for row in rows if row["mean"]}
    assert {lr for _, _, lr, _ in ours} == {"paper", "tuned"}
    results = results_of([folder / "runs"])
    for row in ours.values():
        mean = 100 * sum(results[run]["best"]["test"]["accuracy"] for run in row["runs"].split()) / int(row["n"])
        assert float(row["mean"]) == pytest.approx(mean)
        assert float(row["difference"]) == pytest.approx(mean - float(row["value"]))
    text = (folder / "report" / "report.md").read_text()
    assert "66.1 ± 0.4" in text and "≠" in text and "unknown" in text


def test_numbers_in_conflict_are_all_shown_with_the_one_that_verdicts_use(read: Seen) -> None:
    text = " ".join(read.text)
    assert "99.9 (table1, the paper); 88.8 (readme, its authors' logs or README)" in text
    assert "99.9 (table1)" in text


def test_methods_have_a_row_at_the_papers_and_at_the_tuned_rate(folder: Path) -> None:
    (place,) = places(read_runs([folder / "runs"]))
    (lora,) = (s for s in place.on("glue/rte") if s.name == "lora")
    rows = {name: (rate, group) for name, rate, group in lora.rows}
    assert set(rows) == {"paper lr", "tuned lr"} and rows["paper lr"][0] == 4e-4
    assert rows["tuned lr"][0] == lora.family.chosen
    assert all(run.seed >= 100 for _, group in rows.values() for run in group.finished)


def test_settings_are_named_by_what_differs_from_the_usual_one(folder: Path) -> None:
    (place,) = places(read_runs([folder / "runs"]))
    names = {setting.name for setting in place.settings}
    assert {"kasa", "lora", "full", "kasa (beta=0)", "kasa (rank=64, alpha=128)"} <= names


def test_text_of_runs_stays_text(page: str, read: Seen) -> None:
    assert EVIL not in page
    assert read.tags.count("script") == 1
    assert EVIL in "".join(read.text)


def test_nothing_comes_from_outside(page: str, read: Seen) -> None:
    assert set(read.outside) == {"data:,"}
    assert "default-src 'none'" in page
    assert not re.search(r"@import|url\(\s*['\"]?(?!#)|https?://", page)


def test_links_lead_somewhere_and_ids_are_unique(page: str, read: Seen) -> None:
    assert len(read.ids) == len(set(read.ids))
    assert set(re.findall(r"url\(#([^)]*)\)", page)) <= set(read.ids)
    assert {link[1:] for link in read.links} <= set(read.ids)


def test_colour_is_never_the_only_sign(read: Seen) -> None:
    assert {"s-missing", "s-inside", "s-outside", "s-error"} <= {state for state, _ in read.states}
    assert all(re.search(r"\w", text) and not text[:1].isalnum() for _, text in read.states)


def test_failed_runs_are_listed_with_their_error(read: Seen) -> None:
    assert f"{EVIL} CUDA out of memory" in "".join(read.text)


def test_every_claim_has_its_place(folder: Path, material: Material) -> None:
    assert len(material.claims) > 20
    page = (folder / "report" / "index.html").read_text()
    rows = list(csv.DictReader(io.StringIO((folder / "report" / "claims.csv").read_text())))
    assert {(row["id"], row["lr"]) for row in rows} == {
        (c.id, lr) for c in material.claims for lr in ("paper", "tuned")
    }
    assert all(f'id="{anchor}"' in page for anchor in re.findall(r'href="#(claim-[a-z0-9-]+)"', page))
    assert material.verdicts["tuned"][-1].state != "missing"


def test_chapters_and_figures_are_there(material: Material) -> None:
    chapters = {chapter.key: chapter for chapter in chapters_of(material)}
    assert list(chapters) == (
        [
            "claims",
            "tables",
            "scores",
            "figures",
            "rates",
            "curves",
            "pareto",
            "deviations",
            "audit",
            "cost",
            "missing",
            "provenance",
        ]
    )
    drawn = {key: [b.title for b in c.blocks if type(b).__name__ == "Drawing"] for key, c in chapters.items()}
    assert [len(drawn[key]) for key in ("rates", "curves", "pareto")] == [2, 4, 6]
    assert any("by rank" in title for title in drawn["figures"])
    assert any("without its components" in title for title in drawn["figures"])
    assert any("table6" in title for title in drawn["figures"])
    assert any("by parameter budget" in title for title in drawn["figures"])


def test_the_same_runs_give_the_same_bytes_also_from_a_copy(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "runs", tmp_path / "elsewhere")
    write(material_of(tmp_path / "elsewhere", tmp_path / "printed.csv"), tmp_path / "report")
    for path in (folder / "report").iterdir():
        assert (tmp_path / "report" / path.name).read_bytes() == path.read_bytes(), path.name


def test_latex_has_balanced_tables_and_no_bare_signs(folder: Path) -> None:
    text = (folder / "report" / "tables.tex").read_text()
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") > 10
    assert not re.search(r"(?<!\\)_(?!.*\\label)", re.sub(r"\\label\{[^}]*\}", "", text))
    assert "<" not in text


def test_markdown_has_no_html_of_a_run(folder: Path) -> None:
    assert EVIL not in (folder / "report" / "report.md").read_text()
    assert safe("a|b <b>") == r"a\|b &lt;b>"


def test_a_store_with_nothing_finished_still_makes_a_page(tmp_path: Path) -> None:
    make(tmp_path / "runs", Made(state="failed", error="no memory"))
    path = build([tmp_path / "runs"], tmp_path / "report")
    assert "no memory" in path.read_text()


def test_the_command_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert main([str(tmp_path / "empty"), "--out", str(tmp_path / "out")]) == 2
    assert main([str(tmp_path / "none")]) == 2
    assert main([str(tmp_path / "empty"), "--form", "pockte"]) == 2
    assert "did you mean pocket" in capsys.readouterr().err


def test_made_runs_are_read_as_runs(tmp_path: Path) -> None:
    runs = list(pocket_runs(("kasa",), ("glue/rte",), fresh_seeds=(100,)))
    for run in runs:
        make(tmp_path, run)
    records = read_runs([tmp_path])
    assert len(records) == len({record.run_id for record in records}) == len(runs)
    assert {record.state for record in records} == {"finished"}
    assert sum(not record.tested for record in records) == 8
