"""Plans of suites: states, shared parts, errors of earlier predictions, and what a machine lacks."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from kasa_corda.cli.compose import composed
from kasa_corda.cli.planned import gate, nearest_suite, planned
from kasa_corda.config.run_id import run_id
from kasa_corda.cost.estimate import estimate
from kasa_corda.cost.machine import Machine
from kasa_corda.cost.observed import concurrency, spread
from kasa_corda.cost.plan import Plan, PlannedRun, error_report, make_plan, plan_text
from kasa_corda.cost.profile import Profile, read_profiles
from kasa_corda.store import RunDirectory

H100 = "NVIDIA H100 80GB HBM3"
ROOT = Path(__file__).resolve().parents[1]
BIG = Machine(H100, 1, 85 * 10**9, 128 * 10**9, 10**12, True)
LAPTOP = Machine("AMD EPYC (2 threads)", 0, 0, 16 * 10**9, 10**11, False)


@pytest.fixture(scope="module")
def gpu() -> Profile:
    return read_profiles()[H100]


def run_of(*words: str, state: str = "new", root: Path | None = None, times: int = 1) -> PlannedRun:
    config = composed([*words, *([f"run_root={root}"] if root else [])])
    plain = asdict(config)
    return PlannedRun(config, RunDirectory.of(plain, run_id(plain)) if root else None, state, times)


def finished(run: PlannedRun, seconds: float, peak: int, profile: Profile) -> PlannedRun:
    """A run directory with a result that took this long on the device of the profile."""
    assert run.directory is not None
    run.directory.path.mkdir(parents=True)
    run.directory.write_status("finished")
    run.directory.write_result(
        {
            "run_id": run.directory.run_id,
            "seconds": {"fit": seconds, "evaluate": 0.0, "total": seconds},
            "peak_memory_bytes": {"device": peak, "host": peak},
            "provenance": {"device": profile.device, "date": f"2026-01-01T0{len(run.name) % 9}:00:00+00:00"},
        }
    )
    run.state = "finished"
    return run


KPA = ("method=corda_kpa", "model=smollm2_135m", "task=gsm8k", "calibration=wikitext2")


def test_what_several_runs_share_is_counted_once(gpu: Profile) -> None:
    first = run_of(*KPA)
    runs = [replace(first, config=replace(first.config, seed=seed)) for seed in range(3)]
    plan = make_plan("made", runs, [], BIG, gpu)
    one = estimate(runs[0].config, gpu)
    (prepared,) = one.shared.values()
    assert prepared > 1
    assert plan.seconds == pytest.approx(3 * one.seconds - 2 * prepared)


def test_a_finished_run_leaves_the_shared_part_to_the_others(gpu: Profile) -> None:
    new = run_of(*KPA)
    done = replace(new, state="finished")
    plan = make_plan("made", [new], [], BIG, gpu)
    done.estimate = new.estimate
    beside = Plan("made", [done, new], [], BIG, gpu)
    assert plan.artefacts() and not beside.artefacts()


def test_runs_at_the_same_time_on_a_gpu_end_sooner_but_not_sooner_than_the_device_allows(gpu: Profile) -> None:
    first = run_of("method=lora", "model=minilm", "task=glue/mrpc")
    runs = [replace(first, config=replace(first.config, seed=seed)) for seed in range(40)]
    walls = [make_plan("made", runs, [], BIG, gpu, jobs=jobs).wall for jobs in (1, 4, 1000)]
    assert walls[0] > walls[1] > walls[2]
    assert walls[2] == pytest.approx(make_plan("made", runs, [], BIG, gpu).busy)


def test_the_error_report_sets_predicted_beside_measured(tmp_path: Path, gpu: Profile) -> None:
    runs = []
    for number, factor in enumerate((1.0, 2.0, 0.5)):
        run = run_of("method=lora", "model=minilm", "task=glue/mrpc", f"seed={number}", root=tmp_path)
        expected = estimate(run.config, gpu)
        seconds = expected.by_phase["fit"] + expected.by_phase["evaluate"]
        found = finished(run, factor * seconds, expected.device_bytes, gpu)
        assert found.directory is not None
        result = json.loads((found.directory.path / "result.json").read_text())
        result["provenance"]["date"] = f"2026-01-0{number + 1}T00:00:00+00:00"  # one after the other
        found.directory.write_result(result)
        runs.append(found)
    errors = error_report(runs)
    assert sorted(round(c.error, 3) for c in errors if c.what == "seconds") == [-0.5, 0.0, 1.0]
    assert all(c.error == pytest.approx(0) for c in errors if c.what == "memory")
    summary = spread([c for c in errors if c.what == "seconds"])
    assert summary is not None and summary[0] == pytest.approx(0.5) and summary[1].error == pytest.approx(1.0)
    text = plan_text(make_plan("made", runs, [], BIG, gpu))
    assert "3 finished earlier" in text
    assert "seconds of 3 finished runs: median error 50 %, worst +100 %" in text


def test_runs_that_went_on_together_are_counted_together() -> None:
    def result(name: str, hour: int, seconds: float) -> dict[str, Any]:
        return {
            "run_id": name,
            "seconds": {"total": seconds},
            "provenance": {"date": f"2026-01-01T{hour:02}:00:00+00:00"},
        }

    found = concurrency([result("a", 2, 3600), result("b", 2, 3600), result("c", 5, 3600)])
    assert found == pytest.approx({"a": 2.0, "b": 2.0, "c": 1.0})


def paper_run(gpu: Profile, machine: Machine, **changes: Any) -> Plan:
    run = run_of("scale=paper", "method=kasa", "model=llama2_13b", "task=gsm8k", "trainer.batch_size=8")
    profile = gpu if machine.gpus else read_profiles()["AMD EPYC (2 threads)"]
    return make_plan("paper", [replace(run, times=50)], [], replace(machine, **changes), profile)


@pytest.mark.parametrize(
    ("machine", "changes", "said"),
    [
        (LAPTOP, {}, "a GPU: without one this takes about"),
        (BIG, {"device_bytes": 16 * 10**9}, "of GPU memory: gsm8k llama2_13b kasa needs"),
        (BIG, {"disk_bytes": 10**9}, "of free disk: there is 0.9 GiB"),
        (BIG, {"hub": False}, "the Hugging Face hub, which does not answer, for meta-llama/Llama-2-13b-hf"),
    ],
)
def test_a_machine_that_cannot_do_it_exits_with_what_it_would_need(
    machine: Machine,
    changes: dict[str, Any],
    said: str,
    gpu: Profile,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("CONFIRM", "yes")
    code = gate(paper_run(gpu, machine, **changes), [], smaller=lambda *_: "pocket")
    out = capsys.readouterr().out
    assert code == 1
    assert said in out
    assert "the nearest suite that it can do: suite=pocket (make reproduce-pocket)" in out


def test_a_capable_machine_is_asked_or_confirmed(
    gpu: Profile, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = make_plan("made", [run_of("method=lora", "model=minilm", "task=glue/mrpc")], [], BIG, gpu)
    monkeypatch.delenv("CONFIRM", raising=False)
    assert gate(plan, [], tty=True, ask=lambda _: "y") == 0
    assert gate(plan, [], tty=True, ask=lambda _: "") == 1
    assert gate(plan, [], tty=False) == 1
    assert "CONFIRM=yes starts it" in capsys.readouterr().out
    monkeypatch.setenv("CONFIRM", "yes")
    assert gate(plan, [], tty=False) == 0


def test_a_gated_model_is_named_with_its_licence(gpu: Profile) -> None:
    text = plan_text(paper_run(gpu, BIG))
    assert "licence clicks: meta-llama/Llama-2-13b-hf" in text


def test_the_nearest_suite_is_the_first_smaller_one_that_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    class Found:
        def __init__(self, lacks: list[str]) -> None:
            self.found = lacks

        def lacks(self) -> list[str]:
            return self.found

    asked: list[str] = []

    def made(arguments: list[str], machine: Machine, *, jobs: int) -> Found:
        asked.append(arguments[0])
        return Found(["a GPU"] if arguments[0] == "suite=pocket" else [])

    monkeypatch.setattr("kasa_corda.cli.planned.planned", made)
    monkeypatch.setattr("kasa_corda.cli.planned.group_options", lambda _: ["pocket", "smoke"])
    assert nearest_suite("paper", [], LAPTOP, 1) == "smoke"
    assert asked == ["suite=pocket", "suite=smoke"]
    assert nearest_suite("smoke", [], LAPTOP, 1) is None


def test_a_small_suite_is_planned_end_to_end(tmp_path: Path, gpu: Profile) -> None:
    words = ["suite=pocket_glue", f"run_root={tmp_path}", "task=glue/cola,glue/rte", "seed=0"]
    plan = planned(words, BIG, profile=gpu)
    assert plan.counts() == {"new": 8}
    assert 0 < plan.gpu_hours < 1
    assert {each.name for each in plan.needed if each.kind == "data"} == {"glue/cola", "glue/rte"}


def test_a_search_is_planned_to_its_end(tmp_path: Path, gpu: Profile) -> None:
    words = ["suite=pocket_glue", f"run_root={tmp_path}", "task=glue/cola", "method=lora", "seed=0,1"]
    plan = planned([*words, "trainer.learning_rate=search", "tuned_seeds=100,101"], BIG, profile=gpu)
    assert plan.counts() == {"new": 10, "later": 4 + 2}  # five half decades, two quarter decades, two fresh seeds


def test_the_script_ends_with_two_for_a_wrong_suite(capsys: pytest.CaptureFixture[str]) -> None:
    specification = importlib.util.spec_from_file_location("plan_script", ROOT / "scripts" / "plan.py")
    assert specification and specification.loader
    script = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(script)
    assert script.main(["suite=pocktet", "--no-hub"]) == 2
    assert "suite=pocktet" in capsys.readouterr().err
