"""Renderers, screen and command of the report, on synthetic run directories."""

from __future__ import annotations

import csv
import html.parser
import io
import math
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from synthetic_runs import make_run, make_scores

from kasa_corda.report import Report, build_report, write_report
from kasa_corda.report.__main__ import main
from kasa_corda.report.console import make_console, print_run, print_summary, print_sweep
from kasa_corda.report.html import page
from kasa_corda.report.plots import read_curve
from kasa_corda.report.render import latex, latex_escape, markdown

EVIL = "<script>alert('x')</script> & a_b 50% $x$ {y} | [l](javascript:1)"


def as_text(write: Any) -> str:
    stream = io.StringIO()
    write(make_console(stream))
    return stream.getvalue()


@pytest.fixture(scope="module")
def evil_report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """Every text a run can hold is hostile."""
    root = tmp_path_factory.mktemp("evil")
    events = [{"event": "train", "step": s, "task_loss": 1 / s} for s in (10, 20, 30)]
    events += [
        {"event": "evaluate", "split": "select", "step": s, "select": {EVIL: 0.5, "accuracy": 0.5}} for s in (15, 30)
    ]
    moment = {"step": 1, "epoch": 1.0, "select": {EVIL: 0.5}, "test": {EVIL: 0.5}}
    for seed in range(2):
        make_run(
            root,
            seed=seed,
            events=events,
            method__label=EVIL,
            model__approximation=EVIL,
            result={
                "metric": EVIL,
                "best": moment,
                "last": moment,
                "notes": [EVIL],
                "provenance": {"command": EVIL, EVIL: EVIL},
            },
        )
    make_run(root, method="kasa", state="failed", status={"error": EVIL}, model__approximation=EVIL)
    return build_report([root])


class References(html.parser.HTMLParser):
    """Tags of a page and everything it would load."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "action", "data")]


class TestRenderers:
    def test_the_page_loads_nothing_and_escapes_everything(self, evil_report: Report) -> None:
        text = page(evil_report.tables, evil_report.records)
        parsed = References()
        parsed.feed(text)
        assert parsed.tags.count("script") == 1 and "svg" in parsed.tags
        assert parsed.links and all(link.startswith("#") for link in parsed.links)
        assert "http://" not in text and "https://" not in text and "url(http" not in text
        assert "<script>alert" not in text and "&lt;script&gt;alert" in text

    def test_the_page_has_curves_details_and_failures(self, tmp_path: Path) -> None:
        events = [
            {"event": "train", "step": 1, "loss": 1.0},
            {"event": "evaluate", "step": 1, "scores": {"accuracy": 0.5}},
        ]
        make_run(tmp_path, 0.5, events=events)
        make_run(tmp_path, method="kasa", state="failed", status={"error": "out of memory"})
        report = build_report([tmp_path])
        text = page(report.tables, report.records)
        assert text.count("<svg") == 4 and "python run.py method=lora" in text
        assert "out of memory" in text and "currentColor" in text and "xmlns" not in text

    def test_latex_escapes(self, evil_report: Report) -> None:
        assert latex_escape(r"a_b & 50% #1 {x} ~^\ $") == (
            r"a\_b \& 50\% \#1 \{x\} \textasciitilde{}\textasciicircum{}\textbackslash{} \$"
        )
        text = latex(evil_report.tables)
        assert r"\toprule" in text and r"\bottomrule" in text
        body = re.sub(r"\\[&%$#_{}]", "", text.replace(r"\usepackage{booktabs}", "")).replace("$\\pm$", "")
        assert "_" not in body and "#" not in body and "$" not in body
        assert text.count(r"\begin{table}") == text.count(r"\end{table}")

    def test_markdown_cells_stay_cells(self, evil_report: Report) -> None:
        text = markdown(evil_report.tables, evil_report.records)
        rows = [line for line in text.splitlines() if line.startswith("|")]
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in rows[:4]}) == 1
        assert "<script" not in text and "](javascript" not in text

    def test_csv_has_full_precision_and_a_tidy_form(self, tmp_path: Path) -> None:
        make_scores(tmp_path, {"lora": [1 / 3, 2 / 3], "kasa": [0.5, 0.75]})
        written = write_report(build_report([tmp_path]), tmp_path / "out", ["csv"])
        tables = {path.name: list(csv.DictReader(path.open())) for path in written}
        assert {row["method"]: float(row["best_mean"]) for row in tables["summary.csv"]} == {"lora": 0.5, "kasa": 0.625}
        value = {(r["method"], r["seed"], r["moment"], r["split"]): r["value"] for r in tables["scores_long.csv"]}
        assert float(value["lora", "0", "best", "test"]) == 1 / 3 and len(value) == 4 * 4
        assert float(tables["comparisons.csv"][0]["difference"]) == pytest.approx(0.125)
        assert len(tables["runs.csv"]) == 4

    def test_a_report_without_finished_runs_still_renders(self, tmp_path: Path) -> None:
        make_run(tmp_path, state="failed", status={"error": "boom"})
        report = build_report([tmp_path])
        written = write_report(report, tmp_path / "out")
        assert {"report.md", "report.tex", "report.html", "runs.csv"} <= {path.name for path in written}
        assert "1 failed" in as_text(lambda console: print_summary(report.summary_frame(), console))

    def test_a_step_written_twice_counts_once(self) -> None:
        events = [{"event": "train", "step": 1, "task_loss": loss} for loss in (9.0, 0.5)]
        events += [{"event": "train", "step": "x"}, {"event": "train", "step": 2, "task_loss": math.nan}, "junk"]  # type: ignore[list-item]
        assert read_curve(events, "accuracy").loss == [(1, 0.5)]


class TestConsole:
    RESULT = {
        "label": "kasa",
        "variant": "paper",
        "task": "glue/mrpc",
        "model": "minilm",
        "seed": 3,
        "metric": "accuracy",
        "selection": "paper",
        "best": {"step": 5, "epoch": 1.0, "select": {"accuracy": 0.5}, "test": {"f1": 0.8, "accuracy": 0.7512}},
        "last": {"step": 9, "epoch": 2.0, "select": {}, "test": {"f1": 0.7, "accuracy": 0.7}},
        "parameters": {"trainable": 147552, "total": 22713216},
        "seconds": {"total": 61.2},
        "peak_memory_bytes": {"host": 2**30, "device": None},
        "model_source": {"approximation": "4-bit [red]GGUF[/red]"},
    }

    def test_a_run_ends_with_its_table_and_the_path(self, tmp_path: Path) -> None:
        text = as_text(lambda console: print_run(self.RESULT, tmp_path, console))
        lines = text.rstrip().splitlines()
        assert "75.12" in text and "kasa (paper) on glue/mrpc" in lines[0]
        assert lines[-1] == str(tmp_path / "result.json")
        assert "optimistic" in text and "[red]" in text and "\x1b" not in text

    def test_a_sweep_shows_each_cell_and_each_error(self) -> None:
        cells = [
            {
                "run_dir": "runs/a",
                "task": "glue/rte",
                "model": "m",
                "method": "kasa",
                "seed": 0,
                "state": "finished",
                "score": 0.6,
                "error": None,
            },
            {
                "run_dir": None,
                "task": "glue/rte",
                "model": "m" * 60,
                "method": "lora",
                "seed": 1,
                "state": "impossible",
                "score": None,
                "error": "\x1b[31mrank is too large",
            },
        ]
        text = as_text(lambda console: print_sweep(cells, console))
        assert "60.00" in text and "impossible: glue/rte" in text and "\x1b" not in text
        assert "1 of 2 cells finished, 1 impossible" in text
        assert all(len(line) <= 80 for line in text.splitlines() if "rank is too large" not in line)

    def test_a_sweep_names_learning_rate_and_label_only_where_cells_differ_in_them(self) -> None:
        same = {"task": "glue/rte", "model": "minilm", "method": "lora", "seed": 0, "state": "finished", "score": 0.6}
        cells = [{**same, "learning_rate": rate, "label": None} for rate in (1e-3, 3e-3)]
        text = as_text(lambda console: print_sweep(cells, console))
        assert "learning rate" in text and "0.003" in text and "label" not in text
        cells = [{**same, "learning_rate": 1e-3, "label": label} for label in (None, "base")]
        cells[1] |= {"state": "failed", "error": "out of memory"}
        text = as_text(lambda console: print_sweep(cells, console))
        assert "learning rate" not in text and "failed: glue/rte minilm lora label=base seed=0: out of memory" in text

    def test_the_summary_fits_80_columns(self, tmp_path: Path) -> None:
        make_scores(
            tmp_path, {"lora": [0.5, 0.6, 0.7], "kasa": [0.6, 0.61, 0.62]}, method__variant="a-long-variant-name"
        )
        make_run(tmp_path, method="kasa", seed=7, state="failed", method__variant="a-long-variant-name")
        frame = build_report([tmp_path]).summary_frame()
        text = as_text(lambda console: print_summary(frame, console))
        assert "61.00 ± 1.00" in text and "3!" in text and "\x1b" not in text
        assert max(map(len, text.splitlines())) <= 80

    def test_colours_only_in_a_terminal_and_ascii_where_nothing_else_goes(self) -> None:
        stream = io.StringIO()
        print_run(self.RESULT, "runs/x", Console(file=stream, force_terminal=True, width=80))
        assert "\x1b[" in stream.getvalue()
        raw = io.BytesIO()
        ascii_only = io.TextIOWrapper(raw, "ascii", write_through=True)
        print_run({**self.RESULT, "label": "±"}, "runs/x", make_console(ascii_only))
        assert b"+- (paper)" in raw.getvalue()


class TestCommand:
    def test_it_writes_every_format_and_prints_the_paths(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        make_scores(tmp_path / "runs", {"lora": [0.5, 0.6], "kasa": [0.6, 0.61]})
        assert main([str(tmp_path / "runs"), "--out", str(tmp_path / "out")]) == 0
        out = capsys.readouterr().out
        for name in (
            "report.md",
            "report.tex",
            "report.html",
            "summary.csv",
            "runs.csv",
            "scores_long.csv",
            "comparisons.csv",
        ):
            assert str(tmp_path / "out" / name) in out and (tmp_path / "out" / name).stat().st_size
        assert "4 runs: 4 finished" in out and "55.00 ± 7.07" in out

    def test_select_takes_patterns_lists_and_config_keys(self, tmp_path: Path) -> None:
        make_scores(tmp_path, {"lora": [0.5, 0.6], "kasa": [0.6, 0.61]})
        make_run(tmp_path, task="reviews", trainer__learning_rate=0.5)
        count = lambda *select: len(build_report([tmp_path], select=select).records)  # noqa: E731
        assert count("task=glue/*") == 4 and count("task=glue/*", "method=kasa") == 2
        assert count("seed=1,7") == 2 and count("trainer.learning_rate=0.5") == 1

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["nowhere"], "there is no folder 'nowhere'"),
            (["empty"], "no run directory below empty"),
            (["runs", "--select", "task=glue/rtf"], "did you mean glue/rte"),
            (["runs", "--select", "tsk=glue/rte"], "did you mean task"),
            (["runs", "--select", "task"], "not of the form key=value"),
            (["runs", "--format", "md,pdf"], "--format=pdf is unknown"),
            (["runs", "--reference", "lara"], "did you mean lora"),
            (["runs", "--out", "file"], "cannot write"),
        ],
    )
    def test_errors_are_one_sentence_and_exit_code_2(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        arguments: list[str],
        message: str,
    ) -> None:
        monkeypatch.chdir(tmp_path)
        make_run(tmp_path / "runs")
        (tmp_path / "empty").mkdir()
        (tmp_path / "file").write_text("")
        assert main(arguments) == 2
        printed = capsys.readouterr()
        assert message in printed.err and printed.err.count("\n") == 1 and not printed.out

    def test_help_is_quick_and_loads_nothing_heavy(self) -> None:
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "kasa_corda.report", "--help"], capture_output=True, text=True, check=True
        )
        assert time.perf_counter() - start < 1.0 and "--reference" in done.stdout
        code = "import sys, kasa_corda.report.console, kasa_corda.report.tables, kasa_corda.report.html\n"
        code += "print([m for m in ('torch', 'transformers', 'pandas', 'matplotlib', 'scipy') if m in sys.modules])"
        assert (
            subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
            == "[]"
        )

    def test_a_thousand_runs_take_seconds(self, tmp_path: Path) -> None:
        for index in range(1000):
            method = ("lora", "kasa", "full", "corda")[index % 4]
            make_run(tmp_path, 0.5 + index % 7 / 100, task=f"t{index // 4 % 5}", method=method, seed=index // 20)
        start = time.perf_counter()
        report = build_report([tmp_path])
        write_report(report, tmp_path / "out", ["md", "csv", "latex"])
        assert time.perf_counter() - start < 5
        assert all(group.n == 50 for row in report.tables[0].rows for group in row.groups.values())
