"""Wrong command lines: one sentence with key, value and what would be valid, exit code 2, nothing loaded."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

from wrong_commands import CASES, PAGE, Answer, Case, page  # noqa: E402

ALL = [case for group in CASES.values() for case in group]


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> list[tuple[Case, Answer]]:
    """All commands run in one fresh process, in which whatever they import is seen; once for all workers of xdist."""
    folder = tmp_path_factory.getbasetemp()
    stored = (folder if worker_id == "master" else folder.parent) / "wrong_commands.json"
    with FileLock(f"{stored}.lock"):
        if not stored.exists():
            script = [sys.executable, str(ROOT / "scripts" / "wrong_commands.py"), "--json"]
            done = subprocess.run(script, capture_output=True, text=True, timeout=300, check=False)
            assert done.returncode == 0, done.stderr
            stored.write_text(done.stdout, encoding="utf-8")
    return [(ALL[number], Answer(**answer)) for number, answer in json.loads(stored.read_text(encoding="utf-8"))]


@pytest.fixture(scope="module")
def answer_of(answers: list[tuple[Case, Answer]]) -> dict[Case, Answer]:
    return dict(answers)


def test_there_are_more_than_forty_wrong_commands():
    assert len(set(ALL)) == len(ALL) > 40


@pytest.mark.parametrize("case", ALL, ids=lambda case: case.arguments)
def test_a_wrong_command_is_told_in_one_sentence(case: Case, answer_of: dict[Case, Answer]):
    answer = answer_of[case]
    assert answer.code == 2, answer.message
    assert answer.message.startswith("error: ")
    assert "\n" not in answer.message
    for fragment in case.says:
        assert fragment in answer.message
    assert case.starts or not answer.torch
    assert answer.seconds < (30 if case.starts else 10)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["method=kassa"], "did you mean kasa"),
        (["seed=abc"], "must be a whole number"),
        (["-m", "method=lora", "method.rank=500,600"], "method.rank=384 or less"),
        (["suite=pocket_glu"], "did you mean pocket_glue"),
        (["--dry-run"], "did you mean dry_run"),
    ],
)
def test_the_shell_sees_the_same(run_py, arguments, says):
    done = run_py(*arguments, defaults=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert says in done.stderr
    assert not (run_py.folder / "runs").exists()


def test_the_page_of_wrong_commands_is_current(answers):
    assert PAGE.read_text(encoding="utf-8") == page(answers), "docs/wrong_commands.md is out of date: make docs"
