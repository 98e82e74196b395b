"""``trainer.learning_rate=search`` on the command line: stages as cells, what contradicts it, what it announces."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from search_runs import trials
from synthetic_runs import config_of

from kasa_corda.cli.cells import Cell
from kasa_corda.cli.expand import check_seeds, each_rate, expanded
from kasa_corda.cli.search import announced, choices, next_cells, search_size
from kasa_corda.errors import ConfigError
from kasa_corda.search import window
from kasa_corda.store import RunDirectory

RATE = "trainer.learning_rate"
FRESH = (100, 101)


@pytest.fixture(autouse=True)
def unchecked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Made cells have no complete config: their run directories are named by what varies."""
    monkeypatch.setattr(Cell, "check", lambda cell, optional=(): setattr(cell, "directory", folder_of(tmp_path, cell)))


def folder_of(root: Path, cell: Cell) -> RunDirectory:
    tested = cell.plain.get("evaluator", {}).get("test", True)
    method = cell.plain["method"]
    names = [method["label"] or method["name"], cell.rate, cell.plain["seed"], "tested" if tested else "search"]
    return RunDirectory(root / "-".join(map(str, names)))


def first_cells(root: Path, method: str = "lora", seeds: tuple[int, ...] = (0, 1)) -> list[Cell]:
    found = []
    for rate in window(method):
        for seed in seeds:
            overrides = [f"method={method}", f"{RATE}={rate}", f"seed={seed}", "evaluator.test=false"]
            plain = config_of("glue/rte", method, seed, {RATE: rate, "evaluator.test": False})
            found.append(Cell(overrides, plain, tuned_seeds=FRESH, search=True))
            found[-1].check()
    return found


def finish(cells: list[Cell], score: Callable[[float], float | None], root: Path) -> None:
    """Leave a result in the directory of every trial that has none."""
    for cell in cells:
        assert cell.directory
        if cell.search and not cell.directory.path.exists():
            (made,) = trials(root / "made", {cell.rate: [score(cell.rate)]}, method=cell.plain["method"]["name"])
            made.rename(cell.directory.path)


def whole_search(cells: list[Cell], score: Callable[[float], float | None], root: Path) -> list[list[Cell]]:
    """The new cells of every stage until nothing follows."""
    stages = []
    finish(cells, score, root)
    while new := next_cells(cells)[0]:
        stages.append(new)
        cells += new
        finish(cells, score, root)
    return stages


def values(cells: list[Cell]) -> list[tuple[Any, ...]]:
    return [(cell.rate, cell.plain["seed"], cell.plain["evaluator"]["test"]) for cell in cells]


class TestStages:
    def test_quarter_decades_with_the_search_seeds_then_the_best_with_fresh_seeds_tested(self, tmp_path):
        cells = first_cells(tmp_path)
        refined, final = whole_search(cells, lambda rate: 1 - abs(rate - 5e-4) * 100, tmp_path)
        assert values(refined) == [(r, s, False) for r in (1.78e-4, 5.62e-4) for s in (0, 1)]
        assert values(final) == [(5.62e-4, 100, True), (5.62e-4, 101, True)]
        assert final[0].overrides == ["method=lora", f"{RATE}=0.000562", "seed=100", "evaluator.test=true"]
        assert not any(cell.search for cell in final) and next_cells(cells) == ([], [])

    def test_the_window_is_extended_one_half_decade_at_a_time(self, tmp_path):
        cells = first_cells(tmp_path)
        stages = whole_search(cells, lambda rate: 0.9 if rate == 1e-2 else rate, tmp_path)
        assert [sorted({cell.rate for cell in stage}) for stage in stages] == [
            [1e-2], [3.16e-2], [5.62e-3, 1.78e-2], [1e-2],
        ]  # fmt: skip
        (told,) = choices(cells)
        assert told == "glue/rte minilm lora: learning rate 0.01 (0.9000; 9 rates, window extended by 2 half decades)"

    def test_nothing_follows_before_every_run_of_the_stage_is_over_and_it_says_so(self, tmp_path):
        cells = first_cells(tmp_path)
        finish(cells[:-1], lambda rate: rate, tmp_path)
        sentence = "no learning rate chosen for glue/rte minilm lora: 1 of its 10 runs are not finished"
        assert next_cells(cells) == ([], [sentence])

    def test_families_go_on_independently(self, tmp_path):
        ready, slow = first_cells(tmp_path, "lora"), first_cells(tmp_path, "pissa")
        finish(ready, lambda rate: -abs(rate - 3.16e-4), tmp_path)
        new, waiting = next_cells([*ready, *slow])
        assert {cell.plain["method"]["name"] for cell in new} == {"lora"} and len(waiting) == 1

    def test_diverged_rates_are_not_chosen_and_if_all_diverge_the_window_goes_down(self, tmp_path):
        cells = first_cells(tmp_path)
        *_, final = whole_search(cells, lambda rate: None if rate > 2e-4 else rate, tmp_path)
        assert {cell.rate for cell in final} == {1.78e-4}
        other = first_cells(tmp_path, "pissa")
        finish(other, lambda rate: None, tmp_path)
        assert {cell.rate for cell in next_cells(other)[0]} == {3.16e-6}

    def test_a_search_whose_runs_all_failed_for_another_reason_ends(self, tmp_path):
        cells = first_cells(tmp_path, seeds=(0,))
        finish(cells, lambda rate: None, tmp_path)
        for cell in cells:
            cell.directory.write_status("failed", error="out of memory")
        assert next_cells(cells) == ([], ["no learning rate chosen for glue/rte minilm lora: all of its 5 runs failed"])

    def test_the_same_command_goes_on_from_what_is_on_disk(self, tmp_path):
        done = first_cells(tmp_path)
        stages = whole_search(done, lambda rate: -abs(rate - 1e-3), tmp_path)
        again = first_cells(tmp_path)
        repeated = whole_search(again, lambda rate: pytest.fail("a finished trial was asked for again"), tmp_path)
        assert list(map(values, repeated)) == list(map(values, stages))

    def test_a_run_that_is_started_again_is_read_again(self, tmp_path):
        cells = first_cells(tmp_path, seeds=(0,))
        finish(cells, lambda rate: None if rate == 1e-3 else -abs(rate - 1.1e-3), tmp_path)
        assert {cell.rate for cell in next_cells(cells)[0]} == {1.78e-4, 5.62e-4}
        retried = next(cell for cell in cells if cell.rate == 1e-3)
        (made,) = trials(tmp_path / "again", {1e-3: [0.0]})
        (made / "result.json").rename(retried.directory.path / "result.json")
        retried.directory.write_status("finished")
        assert {cell.rate for cell in next_cells(cells)[0]} == {5.62e-4, 1.78e-3}

    def test_without_tuned_seeds_it_ends_with_the_choice(self, tmp_path):
        cells = first_cells(tmp_path)
        for cell in cells:
            cell.tuned_seeds = ()
        (refined,) = whole_search(cells, lambda rate: -abs(rate - 3e-4), tmp_path)
        assert len(refined) == 4 and len(choices(cells)) == 1

    def test_asking_after_a_thousand_cells_takes_less_than_a_twentieth_of_a_second(self, tmp_path):
        cells = []
        for number in range(100):
            for cell in first_cells(tmp_path):
                cell.plain["method"]["label"] = f"m{number}"
                cell.check()
                cells.append(cell)
        finish(cells[:500], lambda rate: -abs(rate - 3e-4), tmp_path)
        finish([cell for cell in cells[500:] if cell.plain["seed"]], lambda rate: rate, tmp_path)
        following = next_cells(cells)[0]
        assert len(following) == 50 * 4
        cells += following
        spent = []
        for _ in range(5):
            began = time.process_time()
            next_cells(cells)
            spent.append(time.process_time() - began)
        assert min(spent) < 0.05


class TestCommandLine:
    def test_each_method_has_its_window_and_the_test_set_is_left_alone(self):
        found = each_rate(["method=full", f"{RATE}=search", "seed=0"], "full")
        assert found[0] == ["method=full", "seed=0", f"{RATE}=1e-05", "evaluator.test=false"]
        assert len(found) == 5
        assert each_rate([f"{RATE}=search", f"{RATE}=0.1"], "full") == [[f"{RATE}=0.1"]]

    def test_what_contradicts_the_search_is_refused(self):
        expanded([f"{RATE}=search", "evaluator.test=false"])
        with pytest.raises(ConfigError, match=r"evaluator\.test=true contradicts it"):
            expanded([f"{RATE}=search", "evaluator.test=true"])
        with pytest.raises(ConfigError, match=r"evaluator\.test=false contradicts tuned_seeds"):
            expanded([f"{RATE}=search", "tuned_seeds=100", "evaluator.test=false"])
        with pytest.raises(ConfigError, match=r"tuned_seeds=1,2 and seed=1 overlap.*fresh seeds"):
            check_seeds([0, 1], (1, 2))
        check_seeds([0, 1], (100, 101))

    def test_the_announcement_names_stages_and_the_most_runs(self, tmp_path):
        cells = [*first_cells(tmp_path), *first_cells(tmp_path, "full")]
        size = search_size(cells)
        assert (size.window, size.refinements, size.extensions, size.fresh, size.most) == (20, 8, 12, 4, 44)
        first, second = announced(cells)
        assert "searches: 2, each of 7 learning rates on held-out data: 5 half decades (20 runs)" in first
        assert second.endswith("tested (4 runs): at most 44 runs")
        assert announced([]) == []

    def test_one_run_cannot_search(self, run_py):
        done = run_py("method=probe", f"{RATE}=search")
        assert (done.returncode, "trainer.learning_rate=search names several values; add -m" in done.stderr) == (
            2,
            True,
        )

    def test_a_dry_run_composes_every_trial(self, run_py):
        done = run_py("-m", "method=probe,base", f"{RATE}=search", "seed=0,1", "tuned_seeds=100,101", "dry_run=true")
        assert done.returncode == 0, done.stderr
        assert "sweep of 20 cells: 10 to run, 0 finished earlier, 10 impossible" in done.stdout
        assert "evaluator.test=false leaves nothing to do for method=base" in done.stdout
        assert "at most 22 runs" in done.stdout and "10 of its 10 runs are not finished" in done.stdout
        wrong = run_py("-m", "method=probe", f"{RATE}=search", "seed=0,1", "tuned_seeds=1", "dry_run=true")
        assert wrong.returncode == 2 and "needs fresh seeds" in wrong.stderr

    def test_the_evaluation_set_cannot_choose_a_rate(self, run_py):
        done = run_py("method=probe", "selection=paper", "evaluator.test=false")
        assert done.returncode == 2 and "use selection=held_out" in done.stderr

    def test_a_whole_search_runs_and_only_the_fresh_seeds_are_tested(self, run_py):
        done = run_py("-m", "method=probe", f"{RATE}=search", "seed=0", "tuned_seeds=100", "trainer.max_steps=2")
        assert done.returncode == 0, done.stderr + done.stdout
        directories = [RunDirectory(path.parent) for path in (run_py.folder / "runs").rglob("result.json")]
        results = {directory.path: directory.result() for directory in directories}
        tested = [path for path, result in results.items() if result["tested"]]
        assert len(tested) == 1 and 8 <= len(results) <= 11
        for path, result in results.items():
            searched = path not in tested
            assert (result["best"]["test"] == {} == result["last"]["test"]) == searched
            assert any((path / "predictions").glob("*.jsonl")) != searched
            assert result["best"]["select"] and result["seed"] == (0 if searched else 100)
            assert {"learning_rate", "alpha_rule", "alpha_scale"} <= result.keys()
        assert done.stdout.rstrip().endswith(f"{len(results)} of {len(results)} cells finished")


def test_cells_know_their_family_by_everything_but_seed_and_rate(tmp_path):
    cells = first_cells(tmp_path)
    assert len({cell.family for cell in cells}) == 1
    other = cells[0].variation(trainer__epochs=5.0)
    assert other.family != cells[0].family and other.overrides[-1] == "trainer.epochs=5.0"
