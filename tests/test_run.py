"""Whole runs through the command line: train, save, load, predict, resume, sweep."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kasa_corda.store import find_runs

METHODS = ("kasa", "lora", "full", "probe")


def only_run(run_py):
    (found,) = find_runs(run_py.folder / "runs")
    return found


@pytest.mark.parametrize("method", METHODS)
def test_train_save_load_gives_the_same_predictions(run_py, method, tiny_glue):
    done = run_py(f"method={method}", *([] if method in ("full", "probe") else ["method.rank=4"]))
    assert done.returncode == 0, done.stderr
    run = only_run(run_py)
    result = run.result()
    assert run.state() == "finished"
    assert done.stdout.rstrip().endswith("result.json")
    assert result["loss"]["auxiliary"] == 0 or method == "kasa"

    from kasa_corda.tasks import TASKS
    from kasa_corda.trained import load_run

    trained = load_run(run.path)
    data = TASKS["glue"](trained.config.task).load(tiny_glue, "held_out")
    answers = trained.predict([example.text for example in data.test["test"]])
    labels = trained.task.config.labels
    stored = [row["prediction"] for row in run.predictions("test")]
    assert [labels.index(answer["label"]) for answer in answers] == stored
    references = [row["reference"] for row in run.predictions("test")]
    assert trained.task.score(stored, references)["accuracy"] == result["best"]["test"]["accuracy"]


def test_the_adapter_loads_with_plain_peft(run_py, tiny_bert):
    import torch
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from kasa_corda.trained import load_run

    assert run_py("method=kasa", "method.rank=4").returncode == 0
    run = only_run(run_py)
    base = AutoModelForSequenceClassification.from_pretrained(tiny_bert, num_labels=2)
    model = PeftModel.from_pretrained(base, run.path / "adapter").eval()
    inputs = AutoTokenizer.from_pretrained(tiny_bert)("the film is great", return_tensors="pt")
    ours = load_run(run.path).model
    with torch.no_grad():
        torch.testing.assert_close(model(**inputs).logits, ours(**inputs).logits)


def test_the_same_command_again_trains_nothing_and_answers_at_once(run_py):
    first = run_py("method=lora")
    before = only_run(run_py).result()
    began = time.perf_counter()
    second = run_py("method=lora")
    assert time.perf_counter() - began < 6
    assert (first.returncode, second.returncode) == (0, 0)
    assert "this run is finished" in second.stdout
    assert only_run(run_py).result() == before
    assert run_py("method=lora", "force=true").returncode == 0
    assert only_run(run_py).result()["provenance"]["date"] != before["provenance"]["date"]


def test_accumulation_gives_the_same_result(run_py, tiny_bert, tmp_path):
    still = Path(shutil.copytree(tiny_bert, tmp_path / "still"))
    config = json.loads((still / "config.json").read_text())
    (still / "config.json").write_text(
        json.dumps({**config, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0})
    )
    common = ["method=kasa", "method.rank=4", "trainer.batch_size=8", "trainer.max_steps=6", "trainer.log_every=1"]
    for parts in (1, 4):
        assert run_py(*common, f"model.path={still}", f"trainer.accumulation={parts}").returncode == 0
    losses = [[e["loss"] for e in run.metrics() if e["event"] == "train"] for run in find_runs(run_py.folder / "runs")]
    assert [len(steps) for steps in losses] == [6, 6]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_two_processes_give_one_result(run_py):
    done = run_py("method=lora", "scale.devices=2", "trainer.batch_size=8", "trainer.max_steps=4")
    assert done.returncode == 0, done.stderr
    assert len(only_run(run_py).predictions("test")) == 60
    assert only_run(run_py).result()["provenance"]["processes"] == 2


def test_overfitting_one_batch_drives_the_loss_down(run_py):
    arguments = [
        "task.train_examples=16",
        "trainer.batch_size=16",
        "trainer.max_steps=120",
        "trainer.learning_rate=2e-2",
    ]
    assert run_py("method=kasa", "method.rank=4", "trainer.log_every=1", *arguments).returncode == 0
    losses = [e["task_loss"] for e in only_run(run_py).metrics() if e["event"] == "train"]
    assert losses[-1] < 0.2 * losses[0]


def test_an_interrupted_run_goes_on_and_ends_the_same(run_py):
    common = ["method=kasa", "method.rank=4", "trainer.max_steps=60", "trainer.log_every=1", "trainer.batch_size=4"]
    assert run_py(*common, "trainer.evaluate_every=20", f"run_root={run_py.folder / 'whole'}").returncode == 0
    (whole,) = find_runs(run_py.folder / "whole")

    command = [sys.executable, str(run_py.run_py), *run_py.defaults, *common, "trainer.evaluate_every=20"]
    process = subprocess.Popen(command, cwd=run_py.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    metrics = None
    while process.poll() is None:
        found = find_runs(run_py.folder / "runs")
        metrics = found[0].metrics() if found else []
        if len(metrics) >= 5:
            process.send_signal(signal.SIGINT)
            break
        time.sleep(0.02)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "run the same command again" in stderr
    assert only_run(run_py).state() == "interrupted"

    done = run_py(*common, "trainer.evaluate_every=20")
    assert done.returncode == 0, done.stderr
    assert "going on after step" in done.stderr
    part, full = only_run(run_py).result(), whole.result()
    assert part["best"] == full["best"]
    assert part["last"] == full["last"]
    assert only_run(run_py).predictions("test") == whole.predictions("test")
    assert not (only_run(run_py).path / "checkpoint").exists()


def test_a_sweep_survives_a_failing_cell_and_reruns_only_what_is_missing(run_py):
    cells = ["-m", "method=lora,probe", "seed=0,1", "trainer.max_steps=3"]
    bad = run_py(*cells, "task=glue/sst2,glue/cola")
    assert bad.returncode == 1
    assert bad.stdout.count("failed") >= 4
    states = sorted(run.state() for run in find_runs(run_py.folder / "runs"))
    assert states == ["failed"] * 4 + ["finished"] * 4
    good = run_py(*cells, "task=glue/sst2")
    assert good.returncode == 0
    assert "0 to run, 4 finished earlier" in good.stdout


def test_impossible_cells_are_named_and_the_others_run(run_py):
    done = run_py("-m", "method=lora", "method.rank=4,4000", "trainer.max_steps=3")
    assert done.returncode == 1
    assert "method.rank=4000 is larger than layer" in done.stdout
    assert only_run(run_py).state() == "finished"


def test_predict_and_export_use_the_trained_adapter(run_py, tmp_path):
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from kasa_corda.trained import load_run

    assert run_py("method=kasa", "method.rank=4").returncode == 0
    run = only_run(run_py)
    said = run_py(str(run.path), "--text", "the film is great", "--text", "so bad", module="kasa_corda.predict")
    answers = [json.loads(line) for line in said.stdout.splitlines()]
    assert [a["label"] in ("negative", "positive") for a in answers] == [True, True]

    script = [
        sys.executable,
        str(run_py.run_py.parent / "scripts" / "export.py"),
        str(run.path),
        "--out",
        str(tmp_path / "merged"),
    ]
    assert subprocess.run(script, capture_output=True, check=False).returncode == 0
    merged = AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged")
    inputs = AutoTokenizer.from_pretrained(tmp_path / "merged")("the film is great", return_tensors="pt")
    with torch.no_grad():
        torch.testing.assert_close(
            merged(**inputs).logits, load_run(run.path).model(**inputs).logits, atol=1e-5, rtol=1e-4
        )


@pytest.mark.parametrize("tracker", ["wandb", "tensorboard"])
def test_trackers_write_into_the_run_directory(run_py, tracker):
    pytest.importorskip(tracker)
    done = run_py("method=lora", f"tracker={tracker}", "trainer.max_steps=3")
    assert done.returncode == 0, done.stderr
    assert any((only_run(run_py).path / name).exists() for name in ("wandb", "tensorboard"))


def test_early_stop_and_selection_are_recorded(run_py):
    done = run_py(
        "method=probe", "trainer.patience=1", "trainer.learning_rate=1e-12", "trainer.epochs=5", "selection=paper"
    )
    assert done.returncode == 0, done.stderr
    result = only_run(run_py).result()
    assert result["selection"] == "paper"
    assert result["last"]["epoch"] == 2
    assert result["best"]["select"] == result["best"]["test"]


def test_a_diverging_run_fails_with_advice(run_py):
    done = run_py("method=full", "trainer.learning_rate=1e30", "trainer.log_every=1", "trainer.max_steps=5")
    assert done.returncode == 1
    assert "lower trainer.learning_rate" in done.stderr
    assert only_run(run_py).state() == "failed"


def test_dry_run_counts_what_training_trains(run_py):
    planned = run_py("method=kasa", "method.rank=4", "dry_run=true")
    assert planned.returncode == 0, planned.stderr
    assert not (run_py.folder / "runs").exists()
    assert run_py("method=kasa", "method.rank=4", "trainer.max_steps=1").returncode == 0
    trainable = only_run(run_py).result()["parameters"]["trainable"]
    assert f"{trainable:,} parameters" in planned.stdout
    assert str(only_run(run_py).path) not in planned.stdout or "max_steps" in planned.stdout
