"""``tuned_seeds=0,1,2``: the learning rate that did best on held-out data, again with more seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from synthetic_runs import config_of, make_run

from kasa_corda.cli.cells import Cell
from kasa_corda.cli.expand import expanded
from kasa_corda.cli.tuned import second_stage
from kasa_corda.errors import ConfigError
from kasa_corda.report.records import read_runs
from kasa_corda.store import RunDirectory

RATE = "trainer.learning_rate"


@pytest.fixture(autouse=True)
def unchecked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Made cells have no complete config: their run directories are named by rate and seed."""

    def check(cell: Cell) -> None:
        rate, seed = cell.plain["trainer"]["learning_rate"], cell.plain["seed"]
        cell.directory = RunDirectory(tmp_path / f"{rate}-{seed}")

    monkeypatch.setattr(Cell, "check", check)


def cell(root: Path, rate: float, select: float | None = None, seed: int = 0, state: str = "finished") -> Cell:
    moment = {"step": 1, "epoch": 1.0, "select": {"accuracy": select}, "test": {"accuracy": 1 - (select or 0)}}
    path = make_run(root, seed=seed, state=state, result={"best": moment, "last": moment}, **{RATE: rate})
    plain = config_of("glue/rte", "lora", seed, {RATE: rate})
    return Cell([f"{RATE}={rate}", f"seed={seed}"], plain, directory=RunDirectory(path), tuned_seeds=(0, 1, 2))


def chosen(cells: list[Cell]) -> list[tuple[Any, ...]]:
    return [(cell.plain["trainer"]["learning_rate"], cell.plain["seed"]) for cell in second_stage(cells)[0]]


def test_the_best_on_the_selection_split_is_repeated_whatever_the_test_scores(tmp_path):
    cells = [cell(tmp_path, 0.001, 0.6), cell(tmp_path, 0.01, 0.7), cell(tmp_path, 0.1, 0.65)]
    again, waiting = second_stage(cells)
    assert [(c.plain["trainer"]["learning_rate"], c.plain["seed"]) for c in again] == [(0.01, 0), (0.01, 1), (0.01, 2)]
    assert [c.overrides[-1] for c in again] == ["seed=0", "seed=1", "seed=2"]
    assert again[0].overrides[0] == f"{RATE}=0.01" and waiting == []


def test_runs_of_the_first_stage_are_not_repeated(tmp_path):
    first = cell(tmp_path, 0.01, 0.7)
    first.directory = RunDirectory(first.directory.path.rename(tmp_path / "0.01-0"))
    assert chosen([first, cell(tmp_path, 0.1, 0.6)]) == [(0.01, 1), (0.01, 2)]


def test_nothing_is_chosen_before_every_rate_has_run(tmp_path):
    again, waiting = second_stage([cell(tmp_path, 0.01, 0.7), cell(tmp_path, 0.1, state="interrupted")])
    assert again == []
    assert waiting == ["no learning rate chosen for glue/rte minilm lora: 1 of its 2 runs are not finished"]


def test_failed_and_diverged_rates_lose_and_the_mean_over_seeds_decides(tmp_path):
    cells = [cell(tmp_path, 1.0, state="failed"), cell(tmp_path, 0.5, None)]  # a score that is NaN
    cells += [cell(tmp_path, 0.01, score, seed) for seed, score in enumerate((0.5, 0.7))]
    cells += [cell(tmp_path, 0.1, score, seed) for seed, score in enumerate((0.8, 0.3))]
    assert {rate for rate, _ in chosen(cells)} == {0.01}
    failed = second_stage([cell(tmp_path / "other", 1.0, state="failed")])
    assert failed == ([], ["no learning rate chosen for glue/rte minilm lora: all of its 1 runs failed"])


def test_the_key_belongs_to_the_sweep_and_must_be_seeds():
    line = expanded(["method=lora", "tuned_seeds=0,1,2", "seed=0"])
    assert (line.overrides, line.tuned_seeds) == (["method=lora", "seed=0"], (0, 1, 2))
    with pytest.raises(ConfigError, match="tuned_seeds=all must be seeds such as 0,1,2"):
        expanded(["tuned_seeds=all"])


def test_one_command_chooses_and_repeats_and_goes_on_with_what_is_missing(run_py, monkeypatch):
    monkeypatch.undo()
    arguments = ["-m", "method=probe", f"{RATE}=0.01,0.1", "trainer.max_steps=2", "seed=0", "tuned_seeds=0,1"]
    done = run_py(*arguments)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("sweep of 2 cells: 2 to run")
    assert "chosen learning rates: 1 further cells, 1 to run" in done.stdout
    assert done.stdout.rstrip().endswith("3 of 3 cells finished")
    runs = read_runs([run_py.folder / "runs"])
    first = {run.settings[RATE]: run.select_score for run in runs if run.seed == 0}
    (repeated,) = [run for run in runs if run.seed == 1]
    assert first[repeated.settings[RATE]] == max(first.values())
    assert "chosen learning rates: 1 further cells, 0 to run" in run_py(*arguments).stdout
