"""Sweeps through the queue: the real worker, real runs."""

from __future__ import annotations

import pytest

from kasa_corda.cli.expand import expanded
from kasa_corda.errors import ConfigError
from kasa_corda.store import find_runs


def test_jobs_belongs_to_the_sweep_and_must_be_a_number():
    line = expanded(["method=lora", "jobs=4"])
    assert (line.overrides, line.jobs) == (["method=lora"], 4)
    assert expanded(["method=lora"]).jobs == 1
    for wrong in ("0", "all", "-1"):
        with pytest.raises(ConfigError, match=f"jobs={wrong} must be how many runs"):
            expanded([f"jobs={wrong}"])


def test_cells_run_side_by_side_in_workers_and_stages_refill_the_queue(run_py):
    arguments = ["-m", "method=probe", "trainer.learning_rate=0.01,0.1", "trainer.max_steps=2", "seed=0"]
    done = run_py(*arguments, "tuned_seeds=0,1", "jobs=2")
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith("3 of 3 cells finished")
    assert "glue/sst2 tiny-bert probe seed=0 finished after" in done.stdout
    runs = find_runs(run_py.folder / "runs")
    assert len({run.status()["pid"] for run in runs}) == 2
    assert all("task glue/sst2" in (run.path / "log.txt").read_text() for run in runs)


def test_what_one_run_of_a_sweep_prepares_serves_the_others_and_no_run_outside_of_it(tmp_path, monkeypatch):
    import torch

    from kasa_corda.corda.state import PreparationState
    from kasa_corda.queue.shared import sharing

    monkeypatch.setenv("KASA_CORDA_CACHE", str(tmp_path / "cache"))
    adapters, rows = {"layer": (torch.ones(2, 3), torch.ones(4, 2))}, [{"layer": "layer"}]
    with sharing():
        first = PreparationState(tmp_path / "one", {"model": "m"})
        first.save("block", adapters, rows)
        first.save_note("ranks", {"layer": 2})
        second = PreparationState(tmp_path / "two", {"model": "m"})
        assert torch.equal(second.load("block")[0]["layer"][1], torch.ones(4, 2))
        assert second.load_note("ranks") == {"layer": 2}
        assert PreparationState(tmp_path / "three", {"model": "other"}).load("block") is None
        monkeypatch.setenv("KASA_CORDA_CACHE_GB", "0")
        other = PreparationState(tmp_path / "three", {"model": "other"})
        other.save("block", adapters, rows)
        assert PreparationState(tmp_path / "four", {"model": "m"}).load("block") is None  # the older one had to go
        assert PreparationState(tmp_path / "four", {"model": "other"}).load("block") is not None
    assert PreparationState(tmp_path / "five", {"model": "other"}).load("block") is None
