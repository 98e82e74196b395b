"""A suite that was killed and went on: the same runs and the same report. ``benchmarks/kill_suite.py`` does it ten
times; here are what it found, and a short form of it."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import save_tiny_bert, write_tiny_glue
from made_runs import Made, make
from queue_stand_in import install
from test_queue import job
from test_training import example, trainer

from kasa_corda.checkpoint import CheckpointFolder
from kasa_corda.interrupt import Interrupted
from kasa_corda.queue import Job, attempt, run
from kasa_corda.queue.attempt import Ended
from kasa_corda.report.paper.__main__ import main as report
from kasa_corda.training import Trainer

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
STEPS = {"max_steps": 10, "log_every": 4, "checkpoint_every": 3, "evaluate_every": 10}


class Killed(Exception):
    """Stands for kill -9: nothing is saved after it."""


def fit(folder: Path, events: list[dict[str, Any]], stop: dict[int, Any] | None = None) -> Trainer:
    """Ten steps with a record every four; ``stop``: what to do before a step."""
    fitting = trainer(folder, [example(8, start) for start in range(4)], events, batch_size=2, **STEPS)
    batch, left = fitting._batch, dict(stop or {})

    def stopping(step: int) -> list[int]:
        if step in left:
            left.pop(step)()
        return batch(step)

    fitting._batch = stopping  # type: ignore[method-assign]
    fitting.fit(resume=True)
    return fitting


def kill() -> None:
    raise Killed


def told(events: list[dict[str, Any]]) -> dict[tuple[str, int], dict[str, Any]]:
    """What was recorded, by kind and step, without the clock's part."""
    return {
        (event["event"], event["step"]): {k: v for k, v in event.items() if k != "examples_per_second"}
        for event in events
    }


@pytest.mark.parametrize(
    ("how", "error"), [(kill, Killed), (lambda: os.kill(os.getpid(), signal.SIGTERM), Interrupted)]
)
def test_a_run_that_went_on_has_recorded_the_same_losses_at_the_same_steps(tmp_path, how, error):
    whole: list[dict[str, Any]] = []
    undisturbed = fit(tmp_path / "whole", whole)
    events: list[dict[str, Any]] = []
    with pytest.raises(error):
        fit(tmp_path / "stopped", events, {6: how})  # after the checkpoint of step 6, between the records of 4 and 8
    gone_on = fit(tmp_path / "stopped", events)
    assert [step for name, step in told(whole) if name == "train"] == [4, 8, 10]
    assert told(events) == told(whole)
    one, other = (each.method.trained_state(each.bare) for each in (undisturbed, gone_on))
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    for count in ("examples", "tokens", "loss"):
        assert getattr(gone_on.fitted, count) == getattr(undisturbed.fitted, count)


def test_the_last_job_of_a_queue_has_as_many_threads_as_if_it_were_one_of_many(tmp_path, monkeypatch):
    monkeypatch.setattr("kasa_corda.queue.pool.cores", lambda: 8)
    monkeypatch.setattr("kasa_corda.queue.process.WORKER", (sys.executable, install.__code__.co_filename))
    last = job(tmp_path, "fine")
    run([last], devices=[], per_device=4)
    assert last.directory.result()["threads"] == "2"


@contextmanager
def still_saving(asked: Job, seconds: float) -> Iterator[None]:
    """A worker whose queue was killed has the run, and finishes it after so many seconds."""
    held = threading.Event()

    def save() -> None:
        with asked.directory.lock():
            asked.directory.write_status("running")
            held.set()
            time.sleep(seconds)
            asked.directory.write_result({"made by": "the other"})
            asked.directory.write_status("finished")

    thread = threading.Thread(target=save)
    thread.start()
    held.wait()
    yield
    thread.join()


def test_the_queue_waits_for_a_worker_of_a_killed_queue_that_is_still_saving(tmp_path):
    asked = job(tmp_path, "fine")
    with still_saving(asked, 0.5):
        assert attempt.attempt(asked.config, asked.directory, asked.command) == Ended("finished")
    assert asked.directory.result() == {"made by": "the other"}


def test_the_queue_does_not_wait_longer_than_such_a_worker_may_save(tmp_path, monkeypatch):
    monkeypatch.setattr(attempt, "PATIENCE_SECONDS", 0.1)
    asked = job(tmp_path, "fine")
    with still_saving(asked, 0.5):
        ended = attempt.attempt(asked.config, asked.directory, asked.command)
    assert ended.state == "failed" and "is being run by process" in str(ended.error)
    assert asked.directory.state() == "finished"


def test_half_a_removed_checkpoint_does_not_look_like_one(tmp_path, monkeypatch):
    folder = CheckpointFolder(tmp_path)
    folder.save({"last": {"a": torch.ones(2)}, "optimizer": {"b": torch.ones(2)}}, {"step": 3}, 0, lambda: None)
    assert folder.exists()

    def killed_in_between(path: Path, **_: Any) -> None:
        (path / "last.safetensors").unlink(missing_ok=True)
        raise Killed

    monkeypatch.setattr(shutil, "rmtree", killed_in_between)
    with pytest.raises(Killed):
        folder.remove()
    assert not folder.exists()


def test_a_report_without_measurements_is_the_same_of_runs_that_took_longer(tmp_path):
    for method in ("lora", "kasa"):
        make(tmp_path / "one", Made(method=method, seed=100))
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    generator = random.Random(0)
    for path in (tmp_path / "two").rglob("result.json"):
        result = json.loads(path.read_text())
        result["seconds"] = {name: generator.uniform(1, 9) for name in result["seconds"]}
        result["peak_memory_bytes"] = {name: generator.randrange(2**34) for name in result["peak_memory_bytes"]}
        path.write_text(json.dumps(result))

    def pages(runs: str, *options: str) -> dict[str, bytes]:
        assert report([str(tmp_path / runs), "--out", str(tmp_path / "page"), *options]) == 0
        return {path.name: path.read_bytes() for path in (tmp_path / "page").iterdir()}

    assert pages("one") != pages("two")
    bare = pages("one", "--without-measurements")
    assert bare == pages("two", "--without-measurements")
    assert b"What it cost" not in bare["index.html"]


@pytest.mark.heavy
def test_a_suite_that_was_killed_twice_ends_as_if_nothing_had_happened(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import kill_suite

    model, data = save_tiny_bert(tmp_path / "tiny-bert"), write_tiny_glue(tmp_path / "data")
    words = kill_suite.overrides(model, data, steps=96, methods="lora")
    calm, disturbed = (kill_suite.Suite(tmp_path / name, words) for name in ("calm", "disturbed"))
    calm.complete()
    kills = [disturbed.killed(kind, calm.first_step() + seconds) for kind, seconds in (("all", 1), ("queue", 2))]
    disturbed.complete()
    assert all(kill and kill.finished < 7 for kill in kills)
    assert list(kill_suite.differences(calm.runs, disturbed.runs)) == []
    assert kill_suite.report(calm) == kill_suite.report(disturbed)
    assert disturbed.orphans() == []
