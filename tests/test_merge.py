"""Merging run folders: one run for one id, the further one wins, a conflict leaves everything as it was."""

from __future__ import annotations

import json
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from kasa_corda import merge as merging
from kasa_corda.errors import KasaCordaError
from kasa_corda.merge import merge
from kasa_corda.store import RunDirectory

PLACE = Path("reviews", "minilm", "lora", "0123456789ab")


def make(root: Path, state: str = "finished", score: float = 0.5, step: int = 0, place: Path = PLACE) -> RunDirectory:
    run = RunDirectory(root / place)
    run.write_config({"seed": 0})
    if step:
        (run.path / "checkpoint").mkdir()
        (run.path / "checkpoint" / "progress.json").write_text(json.dumps({"step": step}))
    if state == "finished":
        best = {"test": {"accuracy": score}, "step": 3}
        run.write_result({"best": best, "seconds": {"total": step}, "provenance": {"date": root.name}})
        run.write_predictions("test", [{"id": "a", "score": score}])
    run.write_status(state)
    return run


@pytest.fixture
def roots(tmp_path: Path) -> tuple[Path, Path, Path]:
    return tmp_path / "a", tmp_path / "b", tmp_path / "c"


def scores(root: Path) -> dict[str, float | str]:
    return {
        run.run_id: run.result()["best"]["test"]["accuracy"] if run.state() == "finished" else run.state()
        for run in merging.complete_runs(root)
    }


def tree(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_runs_of_all_folders_come_together_whole_and_the_same_run_counts_once(roots):
    a, b, c = roots
    make(a), make(b)
    make(a, place=PLACE.with_name("only_a")), make(b, place=PLACE.with_name("only_b"))
    planned = merge([a, b], c)
    assert scores(c) == {"0123456789ab": 0.5, "only_a": 0.5, "only_b": 0.5}
    assert (len(planned.copies), planned.equal) == (3, 1)
    assert tree(c / PLACE) == tree(a / PLACE)
    again = merge([a, b], c)
    assert (len(again.copies), again.kept) == (0, 3)


def test_different_scores_are_an_error_that_names_both_and_changes_nothing(roots):
    a, b, c = roots
    make(a, score=0.5), make(b, score=0.6)
    make(a, place=PLACE.with_name("new")), make(c, place=PLACE.with_name("old"))
    before = tree(c)
    with pytest.raises(KasaCordaError, match=r"best.test.accuracy: 0.5 and 0.6") as error:
        merge([a, b], c)
    assert str(a / PLACE) in str(error.value) and str(b / PLACE) in str(error.value)
    assert tree(c) == before
    make(c, score=0.5)
    with pytest.raises(KasaCordaError, match="different results"):
        merge([b], c)


def test_a_conflict_can_be_settled_by_place_or_by_age(roots):
    a, b, c = roots
    make(a, score=0.5), make(b, score=0.6)
    merge([a, b], c, keep="first")
    assert scores(c) == {PLACE.name: 0.5}
    merge([a, b], c, keep="newest")
    assert scores(c) == {PLACE.name: 0.6}
    merge([a], c, keep="newest")
    assert scores(c) == {PLACE.name: 0.6}


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
def test_finished_wins_over_unfinished_and_the_further_checkpoint_over_the_earlier(roots, order):
    a, b, c = roots
    make(a, "interrupted", step=30), make(b)
    far, near = PLACE.with_name("far"), PLACE.with_name("near")
    make(a, "interrupted", step=30, place=far), make(b, "interrupted", step=20, place=far)
    make(a, "failed", place=near), make(b, "interrupted", place=near)
    named = {"a": a, "b": b}
    merge([named[name] for name in order], c)
    assert scores(c) == {PLACE.name: 0.5, "far": "interrupted", "near": "interrupted"}
    assert merging.checkpoint_step(RunDirectory(c / far)) == 30


def test_the_target_is_replaced_where_a_source_is_further_and_old_files_do_not_stay(roots):
    a, _, c = roots
    make(c, "interrupted", step=5), make(a)
    merge([a], c)
    assert scores(c) == {PLACE.name: 0.5}
    assert not (c / PLACE / "checkpoint").exists()


def test_an_interrupted_copy_is_made_again_and_never_seen_as_a_run(roots, monkeypatch):
    a, _, c = roots
    make(a), make(a, place=PLACE.with_name("second"))
    real, calls = merging.replace_directory, []

    def interrupted(new, target):
        calls.append(target)
        if len(calls) == 2:
            raise KeyboardInterrupt
        real(new, target)

    monkeypatch.setattr(merging, "replace_directory", interrupted)
    with pytest.raises(KeyboardInterrupt):
        merge([a], c)
    assert len(scores(c)) == 1
    merge([a], c)
    assert len(scores(c)) == 2
    assert not list(c.rglob("*.merging"))


def test_the_script_says_what_it_would_do_and_has_exit_codes(roots, capsys):
    spec = spec_from_file_location("merge_script", Path(__file__).parents[1] / "scripts" / "merge.py")
    script = module_from_spec(spec)
    spec.loader.exec_module(script)
    a, b, c = roots
    make(a), make(b, score=0.7)
    assert script.main([str(a), "--into", str(c), "--dry-run"]) == 0
    assert "would copy" in capsys.readouterr().out and not c.exists()
    assert script.main([str(a), str(b), "--into", str(c)]) == 1
    assert "different results" in capsys.readouterr().err
    assert script.main([str(a), "--into", str(c)]) == 0
    assert "1 runs copied" in capsys.readouterr().out
    assert script.main([str(a / "nowhere"), "--into", str(c)]) == 2
