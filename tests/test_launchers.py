"""Launchers: each composes, refuses to start without its plugin, and really runs cells where the plugin is there."""

from __future__ import annotations

import os

import pytest
from omegaconf import OmegaConf

from kasa_corda.cli.launchers import check_launcher, parallel_cells, share_threads
from kasa_corda.errors import ConfigError
from kasa_corda.store import find_runs

CELLS = ["-m", "method=lora,probe", "trainer.max_steps=2"]


def base(launcher: str, **settings: object):
    """As much of a composed sweep as the launcher's code reads."""
    node = {"_target_": launcher, **settings}
    return OmegaConf.create({"hydra": {"launcher": node, "runtime": {"choices": {"hydra/launcher": "named"}}}})


def finished(run_py) -> list[dict]:
    runs = find_runs(run_py.folder / "runs")
    assert [run.state() for run in runs] == ["finished"] * 2
    return [run.result() for run in runs]


def test_a_missing_plugin_is_named_with_the_extra_that_installs_it(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for package, extra in (("hydra_submitit_launcher", "slurm"), ("hydra_ray_launcher", "ray")):
        with pytest.raises(ConfigError, match=rf"hydra/launcher=named .*kasa-corda\[{extra}\]"):
            check_launcher(base(f"hydra_plugins.{package}.launcher.Launcher"))
    check_launcher(base("hydra._internal.core_plugins.basic_launcher.BasicLauncher"))


@pytest.mark.parametrize(
    ("launcher", "settings", "cells"),
    [
        ("hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher", {"n_jobs": -1}, 8),
        ("hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher", {"n_jobs": 3}, 3),
        ("hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher", {"n_jobs": -2}, 7),
        ("hydra_plugins.hydra_submitit_launcher.submitit_launcher.LocalLauncher", {}, 5),
        ("hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher", {}, 1),
        ("hydra._internal.core_plugins.basic_launcher.BasicLauncher", {}, 1),
    ],
)
def test_cells_at_the_same_time_on_this_machine(monkeypatch, launcher, settings, cells):
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    assert parallel_cells(base(launcher, **settings), 5) == cells


@pytest.mark.parametrize(("cells", "threads"), [(2, "4"), (3, "2"), (100, "1")])
def test_parallel_cells_divide_the_cores(monkeypatch, cells, threads):
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    monkeypatch.setenv("KASA_CORDA_THREADS", "")
    monkeypatch.setenv("OMP_NUM_THREADS", "")
    share_threads(base("hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher", n_jobs=-1), cells)
    assert (os.environ["KASA_CORDA_THREADS"], os.environ["OMP_NUM_THREADS"]) == (threads, threads)


def test_joblib_runs_cells_in_processes_that_share_the_threads_and_each_keeps_its_own_command(run_py):
    done = run_py("hydra/launcher=joblib", "hydra.launcher.n_jobs=2", *CELLS)
    assert done.returncode == 0, done.stderr
    assert "2 of 2 cells finished" in done.stdout
    assert "deprecated" not in done.stderr
    origins = [result["provenance"] for result in finished(run_py)]
    share = max(1, (os.cpu_count() or 1) // 2)
    assert all(origin["device"].endswith(f"({share} threads)") for origin in origins)
    assert len({run.status()["pid"] for run in find_runs(run_py.folder / "runs")}) == 2
    for method, origin in zip(("lora", "probe"), origins, strict=True):
        assert origin["command"].startswith("python run.py ")
        assert f"method={method} " in origin["command"]


def test_submitit_runs_cells_with_its_local_executor(run_py):
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    done = run_py("hydra/launcher=submitit_local", *CELLS)
    assert done.returncode == 0, done.stderr + done.stdout
    assert {result["method"] for result in finished(run_py)} == {"lora", "probe"}
    assert "deprecated" not in done.stderr


def test_ray_runs_cells_on_this_machine(run_py):
    pytest.importorskip("hydra_plugins.hydra_ray_launcher")
    done = run_py("hydra/launcher=ray", "hydra.launcher.ray.remote.num_cpus=1", *CELLS)
    assert done.returncode == 0, done.stderr + done.stdout
    assert {result["method"] for result in finished(run_py)} == {"lora", "probe"}


def test_a_launcher_that_breaks_still_gives_the_table_and_exit_code_1(run_py):
    done = run_py("hydra/launcher=joblib", "hydra.launcher.n_jobs=0", *CELLS)
    assert done.returncode == 1
    assert "hydra/launcher=joblib failed" in done.stderr
    assert "0 of 2 cells finished, 2 queued" in done.stdout
    assert "Traceback" not in done.stderr
