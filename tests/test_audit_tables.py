"""The audit of whole tables: averages, epochs, parameter counts, the papers' own numbers, our own runs."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kasa_corda.audit import audit, audit_runs, coverage, read_sets
from kasa_corda.audit.parameters import counts_of, rounding
from kasa_corda.audit.rates import rates
from kasa_corda.audit.reading import read
from kasa_corda.errors import DataError
from kasa_corda.paper.published import TABLE, Cell, read_published

ROOT = Path(__file__).parents[1]


def cell(value: str, task: str, metric: str = "accuracy", **others) -> Cell:
    words = {"paper": "x", "table": "t", "model": "m", "method": "a", "parameters": None, "std": "", "source": ""}
    return Cell(**(words | {"task": task, "metric": metric, "value": value} | others))


def row(mean: str, **others) -> list[Cell]:
    scores = [cell("44.30", "triviaqa"), cell("9.36", "nq_open"), cell("7.14", "webqs"), cell("44.58", "gsm8k")]
    return [*scores, cell("5.05", "mt_bench", "score 0-10"), cell(mean, "mean:t", "mean", **others)]


def test_a_printed_average_is_recomputed():
    assert audit(row("22.09")) == []
    (finding,) = audit(row("22.19"))
    assert finding.severity == "inconsistent" and "22.09" in finding.sentence and len(finding.cells) == 6


def test_an_average_with_an_unknown_score_or_another_count_is_left_alone():
    assert audit([*row("30.00"), cell("", "math")]) == []
    assert audit([*row("30.00")[:-1], cell("30.00", "average of 6")]) == []


def test_best_and_last_epochs_are_compared_and_the_average_made_of_bests_is_told():
    logs = [
        cell("0.906863", "mrpc", table="logs", setting="best epoch; single run"),
        cell("0.879902", "mrpc", table="logs", setting="last epoch; single run"),
        cell("0.815884", "rte", table="logs", setting="best epoch; single run"),
        cell("0.797834", "rte", table="logs", setting="last epoch; single run"),
    ]
    gap, average = audit([*logs, cell("86.1", "mean:t", "mean")])
    assert gap.severity == average.severity == "notice"
    assert "mrpc 2.70, rte 1.80 points (mean 2.25; averages 86.14 and 83.89)" in gap.sentence
    assert "86.1 is the mean of the best epochs" in average.sentence
    assert len(audit([*logs, cell("83.9", "mean:t", "mean")])) == 1


@pytest.mark.parametrize(("number", "slack"), [(295104, 0.5), (320_000_000, 9_990_000), (21_000_000, 999_000)])
def test_a_rounded_count_of_parameters_has_a_slack(number, slack):
    assert rounding(number) == pytest.approx(slack)


def test_counts_follow_from_the_shape():
    totals = {count.total for count in counts_of("roberta_base", "kasa", 8) if count.targets == "qv"}
    assert {295_104, 296_448, 295_104 + 592_130} <= totals
    assert {319_815_680} <= {count.total for count in counts_of("llama2_7b", "corda_kpa", 128)}


def test_a_count_that_the_method_cannot_have_is_told_with_the_nearest():
    words = {"model": "roberta_base", "method": "lora", "setting": "rank=8"}
    assert audit([cell("90.0", "other", parameters=294_912, **words)]) == []
    assert audit([cell("90.0", "other", parameters=300_000, **words)]) == []
    (finding,) = audit([cell("90.0", "other", parameters=294_921, **words)])
    assert finding.severity == "inconsistent" and "294,912" in finding.sentence


def test_counts_of_one_source_by_two_forms_of_a_method_contradict_each_other():
    words = {"method": "kasa", "setting": "rank=8", "metric": "other", "task": "other"}
    base = cell("1", parameters=295_104, model="roberta_base", source="some/code, logs/base.txt", **words)
    large = {"parameters": 1_841_154, "model": "roberta_large"}
    assert audit([base, cell("1", source="other/code, logs/large.txt", **large, **words)]) == []
    found = audit([base, cell("1", source="some/code, logs/large.txt", **large, **words)])
    assert any("296,448 = 294,912 + 24 x 64" in finding.sentence for finding in found)


def test_a_table_copied_with_a_digit_more_is_not_held_to_it():
    tasks = ["boolq", "piqa", "siqa", "winogrande", "arc_easy"]
    values = ["73.60", "84.40", "80.20", "84.50", "84.70"]  # each has one digit in its source
    cells = [cell(value, task, setting="single run") for value, task in zip(values, tasks, strict=True)]
    assert audit(cells) == []
    assert audit([*cells, cell("72.11", "arc_challenge", setting="single run")]) != []


def test_units_are_told_by_the_table():
    readings = read([cell("0.9", "rte"), cell("0.9", "rte", table="p"), cell("90.1", "sst2", table="p")], read_sets())
    assert [reading.printed.unit for reading in readings] == [1, 100, 100]


needs_numbers = pytest.mark.skipif(not TABLE.is_file(), reason="the table of published numbers is not there")


@needs_numbers
def test_what_is_known_to_be_wrong_with_the_papers_numbers_comes_out_by_itself():
    cells = read_published()
    start = time.perf_counter()
    findings = audit(cells)
    assert time.perf_counter() - start < 10
    impossible = {(c.model, c.task, c.value) for f in findings if f.severity == "impossible" for c in f.cells}
    assert any(task == "glue/qnli" and value.startswith("0.93307") for _, task, value in impossible)
    assert any(task == "glue/sst2" and value.startswith("0.96874") for _, task, value in impossible)
    flagged = {
        (c.task, c.value) for f in findings if f.severity == "unstated" for c in f.cells if f.check.startswith("acc")
    }
    assert {("humaneval", "19.48"), ("humaneval", "18.36"), ("mbpp", "20.91"), ("mbpp", "24.15")} <= flagged
    assert any("296,448" in f.sentence and f.severity == "inconsistent" for f in findings)
    assert any("789,504" in f.sentence and f.severity == "inconsistent" for f in findings)
    assert any("86.29" in f.sentence and "84.81" in f.sentence for f in findings)
    assert not any(c.value == "14.99" for f in findings for c in f.cells)


@needs_numbers
def test_most_shares_are_printed_finely_enough_to_fail():
    covered = coverage(read_published())
    assert covered.shares > 200 and covered.shares_decisive > covered.shares / 2 and covered.averages > 30


def test_drawn_scores_are_never_flagged_and_wrong_ones_are_caught():
    rows = rates(40, tasks=("cola", "rte"))
    assert sum(r.false_alarms for r in rows) == 0 and sum(r.trials for r in rows) == 2400
    caught = {(r.check, r.task, r.decimals): r.power for r in rows}
    assert caught["accuracy", "glue/rte", 4] == 1.0 and caught["accuracy", "glue/cola", 1] == 0.0
    assert caught["accuracy + f1 + matthews", "glue/cola", 2] > 0.9


def test_our_own_runs_raise_no_alarm_unless_a_score_is_wrong(tmp_path):
    for seed, right in enumerate([201, 210, 214]):
        _run(tmp_path / str(seed), seed, right / 277)
    audited = audit_runs([tmp_path])
    assert (audited.runs, audited.settings, audited.rate) == (3, 1, 0.0) and audited.numbers > 70
    _run(tmp_path / "3", 3, 0.7654321)
    assert audit_runs([tmp_path]).rate > 0


def test_the_committed_tables_of_runs_raise_no_alarm():
    audited = audit_runs([ROOT / "benchmarks" / "results"])
    assert audited.runs >= 45 and audited.false_alarms == []


def test_the_script_writes_what_it_finds_and_says_so_by_its_exit_code(tmp_path):
    table = tmp_path / "mine.csv"
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["paper", "table", "model", "task", "metric", "method", "value", "std", "source", "setting"])
        writer.writerow(["p", "t", "m", "rte", "accuracy", "a", "70.00", "", "s", "single run"])
    ran = _script(str(table), "--out", str(tmp_path / "found.json"))
    assert ran.returncode == 1 and "193/277" in " ".join(ran.stdout.split())
    assert json.loads((tmp_path / "found.json").read_text())["findings"][0]["severity"] == "impossible"
    assert _script(str(table), "--out", "found.txt").returncode == 2
    assert "can't be read" in _script(str(tmp_path / "absent.csv")).stderr


def test_evaluation_sets_that_do_not_add_up_are_refused(tmp_path):
    path = tmp_path / "sets.csv"
    path.write_text("task,aliases,size,metrics,negative,positive,source\nmine,,10,accuracy,3,6,\n")
    with pytest.raises(DataError, match="3 \\+ 6"):
        read_sets(path)


def _script(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "scripts" / "audit.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _run(path: Path, seed: int, score: float) -> None:
    path.mkdir()
    config = f"seed: {seed}\nselection: held_out\nscale: {{name: pocket}}\n"
    config += (
        "task: {name: glue/rte, kind: classification, metric: accuracy}\nmodel: {name: minilm}\nmethod: {name: lora}\n"
    )
    (path / "config.yaml").write_text(config)
    (path / "status.json").write_text('{"state": "finished"}')
    moment = {"step": 1, "epoch": 1.0, "select": {}, "test": {"accuracy": score}}
    result = {"metric": "accuracy", "best": moment, "last": moment, "data": {"counts": {"test": 277}}}
    (path / "result.json").write_text(json.dumps(result))
