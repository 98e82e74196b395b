"""``scripts/compare.py``: what changed between two sets of runs."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from synthetic_runs import make_run

from kasa_corda.errors import DataError
from kasa_corda.report.records import read_runs
from kasa_corda.verdicts.changes import Change, Comparison, changes

ROOT = Path(__file__).parent.parent
SCORES = (0.60, 0.61, 0.59, 0.605)


def write(root: Path, scores: Any = SCORES, first: int = 0, **options: Any) -> None:
    for seed, score in enumerate(scores):
        make_run(root, score, seed=first + seed, **options)


def compared(tmp_path: Path) -> Comparison:
    return changes(read_runs([tmp_path / "a"]), read_runs([tmp_path / "b"]))


def only(tmp_path: Path) -> Change:
    (change,) = compared(tmp_path).changes
    return change


class TestChanges:
    def test_equal_results_are_identical(self, tmp_path: Path) -> None:
        for side in "ab":
            write(tmp_path / side)
        change = only(tmp_path)
        assert change.state == "identical" and change.difference == 0 and change.seconds_ratio == pytest.approx(1)

    def test_a_shift_beyond_noise_is_paired_by_seed(self, tmp_path: Path) -> None:
        write(tmp_path / "a")
        write(tmp_path / "b", [score + 0.02 + 0.001 * seed for seed, score in enumerate(SCORES)])
        change = only(tmp_path)
        assert (change.state, change.test) == ("changed", "paired") and change.difference == pytest.approx(0.0215)

    def test_noise_is_no_change(self, tmp_path: Path) -> None:
        write(tmp_path / "a")
        write(tmp_path / "b", [0.61, 0.60, 0.595, 0.60])
        assert only(tmp_path).state == "no change"

    def test_the_same_shift_for_every_seed_is_a_change(self, tmp_path: Path) -> None:
        write(tmp_path / "a")
        write(tmp_path / "b", [score + 0.25 for score in SCORES])
        assert only(tmp_path).state == "changed"

    def test_other_seeds_are_compared_unpaired(self, tmp_path: Path) -> None:
        write(tmp_path / "a")
        write(tmp_path / "b", [score + 0.05 for score in SCORES], first=10)
        change = only(tmp_path)
        assert (change.test, change.state, change.seeds) == ("Welch", "changed", (4, 4))

    def test_one_seed_tells_nothing(self, tmp_path: Path) -> None:
        write(tmp_path / "a", SCORES[:1])
        write(tmp_path / "b", [0.9])
        assert only(tmp_path).state == "can't tell"

    def test_many_cells_are_corrected_for(self, tmp_path: Path) -> None:
        shifts = [0.012, 0.006, 0.011, 0.004]
        for rank in range(1, 11):
            write(tmp_path / "a", method__rank=rank)
            moved = shifts if rank == 1 else [0.004, -0.004, 0.003, -0.004]
            write(tmp_path / "b", [a + b for a, b in zip(SCORES, moved, strict=True)], method__rank=rank)
        found = compared(tmp_path)
        one = next(change for change in found.changes if change.setting == "rank=1")
        assert one.p is not None and one.p_holm is not None and one.p < 0.05 < one.p_holm
        assert not found.changed and len(found.changes) == 10

    def test_time_and_memory_ratios_and_other_data(self, tmp_path: Path) -> None:
        write(tmp_path / "a")
        other = {"seconds": {"fit": 4.0}, "peak_memory_bytes": {"host": 2**31, "device": None},
                 "data": {"fingerprint": "other"}}  # fmt: skip
        write(tmp_path / "b", result=other)
        change = only(tmp_path)
        assert change.seconds_ratio == pytest.approx(0.5) and change.memory_ratio == pytest.approx(2)
        assert change.notes == ("other data",)

    def test_what_stands_on_one_side_alone_is_listed(self, tmp_path: Path) -> None:
        for side in "ab":
            write(tmp_path / side)
        write(tmp_path / "a", method="kasa")
        write(tmp_path / "b", method="dora")
        found = compared(tmp_path)
        assert found.only_a == ("glue/rte minilm kasa",) and found.only_b == ("glue/rte minilm dora",)

    def test_nothing_in_common_is_a_wrong_request(self, tmp_path: Path) -> None:
        write(tmp_path / "a")
        write(tmp_path / "b", method="kasa")
        with pytest.raises(DataError, match="no setting was run in both"):
            compared(tmp_path)


class TestScript:
    def script(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(ROOT / "scripts" / "compare.py"), *arguments]
        return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)

    def test_exit_codes_table_and_files(self, tmp_path: Path) -> None:
        write(tmp_path / "a")
        write(tmp_path / "b", [score + 0.25 for score in SCORES])
        a, b = str(tmp_path / "a"), str(tmp_path / "b")
        same = self.script(a, a)
        assert same.returncode == 0 and "1 cells in both: 1 identical" in same.stdout
        out = tmp_path / "changes.csv"
        changed = self.script(a, b, "--out", str(out))
        assert changed.returncode == 1 and "1 changed" in changed.stdout
        (row,) = csv.DictReader(out.open())
        assert row["state"] == "changed" and float(row["difference"]) == pytest.approx(0.25)

    def test_wrong_requests(self, tmp_path: Path) -> None:
        write(tmp_path / "a")
        missing = self.script(str(tmp_path / "a"), str(tmp_path / "nowhere"))
        assert missing.returncode == 2 and missing.stderr.startswith("error: there is no folder")
        other = self.script(str(tmp_path / "a"), str(tmp_path / "a"), "--out", "x.pdf")
        assert other.returncode == 2 and ".csv or a .md" in other.stderr


def test_markdown_has_the_same_rows(tmp_path: Path) -> None:
    from kasa_corda.verdicts.changes_table import write as write_table

    for side in "ab":
        write(tmp_path / side)
    write_table(compared(tmp_path), tmp_path / "out.md")
    lines = (tmp_path / "out.md").read_text().splitlines()
    assert lines[0].startswith("| cell | A | B |") and "glue/rte minilm lora" in lines[2] and "identical" in lines[2]
