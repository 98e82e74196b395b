"""The queue: order, devices, retries, crashes, interruptions, and that nothing is left running."""

from __future__ import annotations

import copy
import io
import os
import signal
import subprocess
import sys
import time
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from conftest import compose

from kasa_corda.interrupt import Interrupted
from kasa_corda.queue import Done, Job, ordered, process, run
from kasa_corda.queue.causes import CONNECTION, MEMORY, cause_of, unexpected
from kasa_corda.queue.screen import Screen
from kasa_corda.queue.shared import artefacts
from kasa_corda.queue.states import progress_of, standings, status_text
from kasa_corda.store import RunDirectory

STAND_IN = Path(__file__).parent / "queue_stand_in.py"


@cache
def base_config(*overrides: str) -> Any:
    from kasa_corda.launch import prepare

    return prepare(compose("model=minilm", "task=reviews", *overrides))[0]


def job(
    root: Path, label: str, seed: int = 0, steps: int = 2, wait: float = 0.02, method: str = "lora", **about: Any
) -> Job:
    config = copy.deepcopy(base_config(f"method={method}"))
    config.method.label, config.seed = label, seed
    config.trainer.max_steps, config.trainer.epochs = steps, wait
    return Job(config, RunDirectory(root / f"{label} {seed}"), ["python", "run.py", label], **about)


@pytest.fixture(autouse=True)
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "WORKER", (sys.executable, str(STAND_IN)))
    monkeypatch.setattr("kasa_corda.queue.backlog.fetched", lambda jobs, say, known: {})


def states(done: list[Done]) -> dict[str, str]:
    return {each.job.config.method.label: each.state for each in done}


def alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


def until(condition: Any, seconds: float = 15.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


# order


def named(name: str, seconds: float | None, *claims: str) -> Job:
    return Job(None, RunDirectory(Path(name)), [], seconds, claims)  # type: ignore[arg-type]


def test_the_claim_that_needs_least_comes_first_as_a_whole_and_its_longest_cells_first():
    jobs = [named("a1", 10, "big"), named("b1", 1, "small"), named("a2", 50, "big"), named("b2", 3, "small")]
    assert [str(each.path) for each in ordered(jobs)] == ["b2", "b1", "a2", "a1"]


def test_a_cell_of_two_claims_counts_once_and_jobs_of_no_claim_come_last():
    jobs = [named("free", 99), named("both", 10, "x", "y"), named("x", 5, "x"), named("y", 1, "y"), named("z", 12, "z")]
    # y: 11 seconds; without "both" x has 5 left, less than z's 12
    assert [str(each.path) for each in ordered(jobs)] == ["both", "y", "x", "z", "free"]


def test_equal_cells_keep_their_order():
    jobs = [named(str(i), None) for i in range(5)]
    assert ordered(jobs) == jobs


# runs


def test_cells_share_workers_that_are_kept_and_get_a_device_and_a_share_of_the_cores(tmp_path, monkeypatch):
    monkeypatch.setattr("kasa_corda.queue.pool.cores", lambda: 8)
    jobs = [job(tmp_path, "fine", seed) for seed in range(6)]
    done = run(jobs, devices=["3", "5"])
    assert {each.state for each in done} == {"finished"} and len(done) == 6
    results = [each.directory.result() for each in jobs]
    assert {(r["gpu"], r["threads"]) for r in results} == {("3", "4"), ("5", "4")}
    assert len({r["pid"] for r in results}) == 2
    assert "a line of fine seed 0" in (jobs[0].path / "log.txt").read_text()
    assert results[0]["command"] == ["python", "run.py", "fine"]


def test_out_of_memory_is_tried_again_with_twice_the_micro_batches_in_the_same_directory(tmp_path):
    asked = job(tmp_path, "out of memory")
    (done,) = run([asked], devices=["0"])
    assert (done.state, done.retried) == ("finished", True)
    assert asked.directory.config()["trainer"]["accumulation"] == 1  # what its id stands for
    assert asked.directory.config()["trainer"]["batch_size"] == asked.config.trainer.batch_size
    assert asked.directory.status()["accumulation"] == asked.directory.result()["accumulation"] == 2
    assert asked.directory.result()["notes"] == ["trainer.accumulation=2: 1 did not fit into memory"]


def test_memory_that_never_suffices_fails_after_the_second_attempt(tmp_path):
    asked = job(tmp_path, "out of memory")
    asked.config.trainer.batch_size = 1
    (done,) = run([asked], devices=["0"])
    assert (done.state, done.retried) == ("failed", True)
    assert "out of memory" in asked.directory.status()["error"]


def test_failures_stop_nothing_and_only_those_that_may_pass_are_tried_again(tmp_path):
    labels = ["wrong", "dies", "dies once", "connection", "fine"]
    done = run([job(tmp_path, label) for label in labels], devices=[], per_device=2)
    assert states(done) == {
        "wrong": "failed", "dies": "failed", "dies once": "finished", "connection": "finished", "fine": "finished",
    }  # fmt: skip
    assert {each.job.config.method.label for each in done if each.retried} == {"dies", "dies once", "connection"}
    found = {run.directory.path.name: run for run in standings(tmp_path)}
    assert found["dies 0"].error == "the worker process ended with exit code 7"
    assert found["wrong 0"].error == "the loss became nan at step 3"


def test_finished_cells_bring_further_ones_and_no_directory_is_run_twice(tmp_path):
    told: list[list[str]] = []

    def more(done: list[Done]) -> list[Job]:
        told.append([each.job.config.method.label for each in done])
        return [job(tmp_path, "later"), job(tmp_path, "first")] if told[-1] == ["first"] else []

    done = run([job(tmp_path, "first")], devices=[], per_device=2, more=more)
    assert told == [["first"], ["later"]]
    assert [each.job.config.method.label for each in done] == ["first", "later"]


def test_a_run_over_several_gpus_gets_them_all_and_one_too_many_is_an_error(tmp_path):
    two, three = job(tmp_path, "two"), job(tmp_path, "three")
    two.config.scale.devices, three.config.scale.devices = 2, 3
    singles = [job(tmp_path, "single", seed) for seed in range(3)]
    done = run([singles[0], two, three, *singles[1:]], devices=["0", "1"], screen=Screen(2))
    assert states(done) == {"single": "finished", "two": "finished", "three": "failed"}
    assert two.directory.result()["gpu"] == "0,1"
    assert three.directory.status()["error"] == "scale.devices=3 needs 3 GPUs, but there are 2"


def test_the_first_that_needs_an_artefact_prepares_it_before_the_others_start(tmp_path, capsys):
    slow, other, free = (job(tmp_path, f"k{i}", method="kasa", wait=0.3) for i in range(3))
    free.config.method.rank += 1
    assert artefacts(slow.config) == artefacts(other.config) != artefacts(free.config)
    other.config.trainer.learning_rate = 1.0
    assert artefacts(slow.config) == artefacts(other.config)
    run([slow, other, free], devices=[], per_device=3)
    begun = [line.split()[3] for line in capsys.readouterr().out.splitlines() if str(tmp_path) in line]
    assert begun == ["k0", "k2", "k1"]
    assert other.directory.metrics()[0]["time"] - 0.3 >= slow.directory.metrics()[0]["time"] - 0.05


def test_in_this_process_the_same_rules_hold(tmp_path, monkeypatch, capsys):
    import queue_stand_in

    monkeypatch.setitem(sys.modules, queue_stand_in.PIPELINE, sys.modules.get(queue_stand_in.PIPELINE))
    monkeypatch.setattr("kasa_corda.pipeline", None, raising=False)
    queue_stand_in.install()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    jobs = [job(tmp_path, "wrong", seconds=9.0), job(tmp_path, "out of memory", seconds=20.0), job(tmp_path, "fine")]
    done = run(jobs, devices=[])
    assert [each.job.config.method.label for each in done] == ["fine", "out of memory", "wrong"]
    assert [each.state for each in done] == ["finished", "finished", "failed"]
    assert jobs[1].directory.status()["accumulation"] == 2
    assert "error: the loss became nan" in capsys.readouterr().err


# interruptions


@pytest.fixture
def queue_process(tmp_path):
    started = []

    def start(*labels: str) -> subprocess.Popen:
        command = [sys.executable, str(STAND_IN), str(tmp_path), *labels]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        until(lambda: all((tmp_path / f"{label} 0" / "tried").exists() for label in labels))
        return started[-1]

    yield start
    for each in started:
        each.kill()


def workers_of(root: Path) -> list[int]:
    return [run.directory.status()["pid"] for run in standings(root)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_leaves_resumable_runs_and_no_process(tmp_path, queue_process, number):
    parent = queue_process("one", "two")
    workers = workers_of(tmp_path)
    until(lambda: all(run.directory.metrics() for run in standings(tmp_path)))
    parent.send_signal(number)
    output, errors = parent.communicate(timeout=20)
    assert parent.returncode != 0 and "Interrupted" in errors
    assert "stopping: 2 running cells save first" in output
    assert [run.state for run in standings(tmp_path)] == ["interrupted"] * 2
    assert not any(map(alive, workers))
    again = job(tmp_path, "one", steps=5)
    before = int((again.path / "step").read_text())
    run([again], devices=[], per_device=2)
    assert again.directory.metrics()[-1]["step"] == max(before, 5)


def test_a_second_interruption_kills_what_does_not_listen(tmp_path, queue_process):
    parent = queue_process("deaf")
    workers = workers_of(tmp_path)
    parent.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert all(map(alive, workers))
    parent.send_signal(signal.SIGINT)
    parent.communicate(timeout=20)
    assert not any(map(alive, workers))
    assert [run.state for run in standings(tmp_path)] == ["interrupted"]


def test_workers_end_by_themselves_when_the_queue_is_killed(tmp_path, queue_process):
    parent = queue_process("one", "two")
    workers = workers_of(tmp_path)
    parent.send_signal(signal.SIGKILL)
    until(lambda: not any(map(alive, workers)))
    assert [run.state for run in standings(tmp_path)] == ["interrupted"] * 2
    assert all((run.directory.path / "step").exists() for run in standings(tmp_path))


def test_an_interruption_in_the_middle_raises_and_keeps_what_is_done(tmp_path):
    def more(done: list[Done]) -> list[Job]:
        until((tmp_path / "long 0" / "tried").exists)
        os.kill(os.getpid(), signal.SIGINT)
        return []

    with pytest.raises(Interrupted):
        run([job(tmp_path, "fine"), job(tmp_path, "long", steps=500)], devices=[], per_device=2, more=more)
    assert {run.directory.path.name: run.state for run in standings(tmp_path)} == {
        "fine 0": "finished", "long 0": "interrupted",
    }  # fmt: skip


def test_a_warning_of_slurm_is_passed_on_once_the_run_has_saved(monkeypatch):
    from kasa_corda.interrupt import StopRequest

    heard: list[int] = []
    before = signal.signal(signal.SIGUSR2, lambda number, frame: heard.append(number))
    try:
        with StopRequest(print) as stop:
            os.kill(os.getpid(), signal.SIGUSR2)
            assert stop.requested and heard == []
            os.kill(os.getpid(), signal.SIGUSR2)  # no step ends: at once
            assert heard == [signal.SIGUSR2]
        assert heard == [signal.SIGUSR2] * 2
        with StopRequest(print):
            pass
        assert len(heard) == 2
    finally:
        signal.signal(signal.SIGUSR2, before)


# causes


def test_what_may_pass_is_told_from_what_will_not():
    assert cause_of(MemoryError()) == MEMORY
    assert cause_of(RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried")) == MEMORY
    assert cause_of(OSError(5, "Input/output error")) == CONNECTION
    assert cause_of(OSError(28, "No space left on device")) is None
    assert cause_of(ValueError("shapes do not fit")) is None
    wrapped = RuntimeError("unexpected")
    wrapped.__cause__ = ConnectionError("reset")
    assert cause_of(wrapped) == CONNECTION
    assert unexpected(ValueError()) and not unexpected(Interrupted("x"))


# status


def test_status_counts_and_says_how_far_what_failed_and_who_is_silent(tmp_path):
    for name, state, error in (("a", "finished", None), ("b", "failed", "out of memory"), ("c", "running", None)):
        directory = RunDirectory(tmp_path / "reviews" / "minilm" / "lora" / name)
        directory.write_config({"trainer": {"max_steps": 40}})
        directory.write_status(state, **({"error": error} if error else {}))
    now = time.time()
    for step in (10, 20):
        directory.append_metrics({"event": "train", "step": step, "epoch": step / 20, "time": now - 60 + step})
    text = status_text(tmp_path, now=now + 65)
    assert text.startswith(f"{tmp_path}: 1 running, 1 finished, 1 failed")
    assert "running      reviews/minilm/lora/c  step 20/40, 0:20 left, last sign 1:05 ago" in text
    assert "failed       reviews/minilm/lora/b  out of memory" in text
    assert "oldest heartbeat: reviews/minilm/lora/c, 1:05 ago" in text


def test_steps_are_counted_from_the_epochs_where_the_config_does_not_say():
    from kasa_corda.queue.states import total_steps

    event = {"step": 30, "epoch": 1.5}
    assert total_steps({"epochs": 3.0}, event) == 60
    assert total_steps({"epochs": 3.0, "steps_cap": 50}, event) == 50
    assert total_steps({"max_steps": 7}, event) == 7
    assert total_steps({}, event) is None


def test_status_script_has_exit_codes(tmp_path, capsys):
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location("status", Path(__file__).parents[1] / "scripts" / "status.py")
    status = module_from_spec(spec)
    spec.loader.exec_module(status)
    assert status.main([str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"{tmp_path}: no runs\n"
    RunDirectory(tmp_path / "x").write_status("failed", error="why")
    assert status.main([str(tmp_path)]) == 1
    assert status.main([str(tmp_path / "nowhere")]) == 2


def test_the_table_has_a_line_for_each_running_cell_and_the_time_left(tmp_path):
    from rich.console import Console

    one, other = job(tmp_path, "one", seconds=100.0), job(tmp_path, "other", seconds=10.0)
    one.directory.write_config({"trainer": {"max_steps": 40}})
    one.directory.append_metrics({"event": "train", "step": 12, "epoch": 0.3})
    screen = Screen(1)
    screen.planned([other])
    screen.started(one)
    screen.ended(Done(job(tmp_path, "past", seconds=5.0), "finished", seconds=10.0))
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(screen.table())
    text = console.export_text()
    assert "reviews minilm one seed=0" in text and "step 12/40" in text
    assert "1 running, 1 finished, 1 waiting; 0:00 so far, about 3:40 left" in text  # twice the estimates
    assert progress_of(one.directory).step == 12
