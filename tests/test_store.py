"""Run directories survive damage, concurrency and half-written files."""

from __future__ import annotations

import json
import multiprocessing
import os

import pytest

from kasa_corda.config import run_id
from kasa_corda.errors import KasaCordaError
from kasa_corda.store import RunDirectory, find_runs, replace_directory, write_atomically


@pytest.fixture
def run(tmp_path):
    return RunDirectory(tmp_path / "runs" / "glue" / "sst2" / "tiny" / "lora" / "abc")


def test_what_is_written_is_read_back(run):
    run.write_config({"seed": 1})
    run.write_status("running")
    run.append_metrics({"step": 1})
    run.write_predictions("test", [{"id": "é", "prediction": 1}])
    run.write_result({"best": 0.5})
    assert (run.config(), run.result()) == ({"seed": 1}, {"best": 0.5})
    assert run.metrics()[0]["step"] == 1
    assert run.predictions("test") == [{"id": "é", "prediction": 1}]
    assert [found.path for found in find_runs(run.path.parents[4])] == [run.path]


def test_a_running_state_without_its_process_is_interrupted(run):
    run.write_status("running")
    assert run.state() == "running"
    status = run.status()
    process = multiprocessing.Process(target=os.getpid)
    process.start()
    process.join()
    write_atomically(run.path / "status.json", json.dumps({**status, "pid": process.pid}))
    assert run.state() == "interrupted"


def test_attempts_are_counted_per_process(run):
    run.write_status("running")
    run.write_status("failed")
    assert run.status()["attempt"] == 1
    write_atomically(run.path / "status.json", json.dumps({**run.status(), "pid": 1}))
    run.write_status("running")
    assert run.status()["attempt"] == 2


def test_a_torn_last_line_of_metrics_is_left_out(run):
    run.append_metrics({"step": 1})
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "lo')
    assert [event["step"] for event in run.metrics()] == [1]


def test_an_answer_may_hold_every_kind_of_line_break(run):
    rows = [{"id": "1", "prediction": "one\u2028two\u0085three\x0cfour\r\nfive"}, {"id": "2", "prediction": ""}]
    run.write_predictions("test", rows)
    assert run.predictions("test") == rows


def test_a_damaged_result_is_named(run):
    write_atomically(run.path / "result.json", "{")
    with pytest.raises(KasaCordaError, match=r"result\.json is damaged"):
        run.result()


def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_atomically(path, "old")
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_replacing_a_directory_leaves_only_the_new_one(tmp_path):
    for name in ("target", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "from").write_text(name)
    replace_directory(tmp_path / "new", tmp_path / "target")
    assert (tmp_path / "target" / "from").read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["target"]


def _hold(path, ready, done):
    with RunDirectory(path).lock():
        ready.set()
        done.wait(20)


def test_a_second_process_is_refused_while_the_first_has_the_run(run):
    ready, done = multiprocessing.Event(), multiprocessing.Event()
    process = multiprocessing.Process(target=_hold, args=(run.path, ready, done))
    process.start()
    assert ready.wait(20)
    with pytest.raises(KasaCordaError, match="is being run by process"), run.lock():
        pass
    done.set()
    process.join()
    with run.lock():
        pass


BASE = {
    "seed": 0,
    "data_dir": None,
    "run_root": "runs",
    "resume": True,
    "tracker": {"name": "none"},
    "scale": {"name": "pocket", "devices": 1},
    "model": {"name": "m", "path": None},
    "method": {"name": "kasa", "rank": 8, "learning_rate": 1e-3},
    "trainer": {"learning_rate": 1e-3, "log_every": 10},
}


def test_run_id_ignores_what_cannot_change_the_result():
    same = {**BASE, "data_dir": "/d", "run_root": "/r", "resume": False, "tracker": {"name": "wandb"}}
    same["trainer"] = {"log_every": 1, "learning_rate": 1e-3}
    assert run_id(same) == run_id(BASE)
    assert len(run_id(BASE)) == 12


@pytest.mark.parametrize("change", [{"seed": 1}, {"method": {"name": "kasa", "rank": 4, "learning_rate": 1e-3}}])
def test_run_id_changes_with_the_result(change):
    assert run_id({**BASE, **change}) != run_id(BASE)
