"""The same config twice gives the same bits, and a saved adapter the scores that it had in training."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT, compose
from method_cases import NEEDS, OPTIONS, TARGETS, cases

from kasa_corda.deterministic import VARIABLE, set_deterministic
from kasa_corda.errors import KasaCordaError
from kasa_corda.launch import launch, prepare
from kasa_corda.methods import METHODS
from kasa_corda.methods.untrained import FILES
from kasa_corda.store import RunDirectory
from kasa_corda.tasks import TASKS
from kasa_corda.trained import load_run

TRAINABLE = sorted({case.method for case in cases() if case.kind == "encoder" and METHODS[case.method].trains})
QUICK = ("adalora", "bitfit", "corda_ipa", "dylora", "full", "kasa", "lora", "pfeiffer", "pissa", "prefix_tuning")
"""one method of every kind of mechanism; the others take minutes together"""
OPEN = ("seconds", "peak_memory_bytes", "throughput", "provenance", "switches")
"""what of a result is not of the config"""


def both(names: list[str]) -> list[Any]:
    return [name if name in QUICK else pytest.param(name, marks=pytest.mark.heavy) for name in names]


def overrides(method: str, given: dict[str, Path], root: Path) -> list[str]:
    config = METHODS[method].Config.__dataclass_fields__
    options = ({"rank": 2} if "rank" in config else {}) | OPTIONS.get(method, {})
    options |= {"dropout": 0.1} if "dropout" in config else {}
    options |= {"target_modules": TARGETS.get(method, "all_linear")} if METHODS[method].adapts_layers else {}
    lines = [f"method.{key}={value}" for key, value in options.items() if key in config]
    lines += [f"model.path={given['model']}", f"data_dir={given['data']}", f"run_root={root}", f"method={method}"]
    if METHODS[method].calibrated:
        lines += ["calibration.length=32", "calibration.samples=16", "calibration.source=train"]
    lines += ["model=local", "task=glue/sst2", "task.max_length=32", "task.train_examples=24", "task.held_out=12"]
    return [*lines, "trainer.max_steps=3", "trainer.batch_size=8", "trainer.evaluate_every=2", "scale.threads=1"]


def made(*lines: str) -> RunDirectory:
    config, directory = prepare(compose(*lines))
    launch(config, directory, ["test"])
    return directory


def content(run: RunDirectory) -> dict[str, Any]:
    """Everything of a run that its config decides, weights and predictions as digests of their bytes."""
    files = sorted([*(run.path / "adapter").rglob("*.safetensors"), *(run.path / "predictions").rglob("*.jsonl")])
    result = {key: value for key, value in (run.result() or {}).items() if key not in OPEN}
    metrics = [{k: v for k, v in e.items() if k not in ("time", "examples_per_second")} for e in run.metrics()]
    digests = {str(f.relative_to(run.path)): digest(f) for f in files}
    return {"result": result, "metrics": metrics, "files": digests}


def digest(file: Path) -> str:
    """Of a file's bytes; of safetensors with a sorted header: the library's order is random."""
    octets = file.read_bytes()
    if file.suffix != ".safetensors":
        return hashlib.sha256(octets).hexdigest()
    length = int.from_bytes(octets[:8], "little")
    header = json.dumps(json.loads(octets[8 : 8 + length]), sort_keys=True)
    return hashlib.sha256(header.encode() + octets[8 + length :]).hexdigest()


@pytest.fixture(scope="module")
def given(tiny_bert: Path, tiny_glue: Path) -> dict[str, Path]:
    return {"model": tiny_bert, "data": tiny_glue}


@pytest.mark.parametrize("method", both(TRAINABLE))
def test_the_same_config_twice_is_the_same_bits_and_its_saved_adapter_scores_the_same(method, given, tmp_path):
    if method in NEEDS:
        pytest.importorskip(NEEDS[method])
    torch.manual_seed(1)
    first = made(*overrides(method, given, tmp_path / "first"))
    torch.manual_seed(2)  # whatever a process did before must not matter
    torch.rand(7)
    second = made(*overrides(method, given, tmp_path / "second"))
    one, other = content(first), content(second)
    assert one == other
    weights = [name for name in one["files"] if name.startswith("adapter/")]
    assert weights and any(event["event"] == "train" for event in one["metrics"])

    if not any((first.path / "adapter" / name).exists() for name in FILES):  # a whole model: full fine-tuning
        assert answers(first) == [row["prediction"] for row in first.predictions("test")]
        return
    again = evaluated(first, given, tmp_path)
    assert again.result()["best"]["test"] == first.result()["best"]["test"]
    assert again.predictions("test") == first.predictions("test")


def answers(run: RunDirectory) -> list[int]:
    """What a saved model predicts for the test set, loaded on its own."""
    trained = load_run(run.path)
    data = TASKS["glue"](trained.config.task).load(Path(trained.config.data_dir), "held_out")
    found = trained.predict([example.text for example in data.test["test"]])
    return [trained.task.config.labels.index(answer["label"]) for answer in found]


def evaluated(run: RunDirectory, given: dict[str, Path], root: Path) -> RunDirectory:
    """A run that scores the saved adapter of another, as ``python -m kasa_corda.evaluate`` does."""
    lines = overrides("adapter", given, root / "evaluated")
    kept = [line for line in lines if not line.startswith("method.target_modules")]
    return made(*kept, f"method.path={run.path}")


class TestDeterministic:
    @pytest.fixture(autouse=True)
    def restored(self, monkeypatch):
        monkeypatch.delenv(VARIABLE, raising=False)
        yield
        torch.use_deterministic_algorithms(False)
        torch.backends.cudnn.deterministic = False

    def test_it_holds_for_the_run_that_asks_for_it_and_not_for_the_next(self):
        set_deterministic(True)
        assert torch.are_deterministic_algorithms_enabled() and torch.backends.cudnn.deterministic
        set_deterministic(False)
        assert not torch.are_deterministic_algorithms_enabled() and not torch.backends.cudnn.deterministic

    def test_cublas_is_told_before_it_starts(self, monkeypatch):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
        set_deterministic(True)
        assert os.environ[VARIABLE] == ":4096:8"

    def test_a_process_whose_cublas_has_started_otherwise_refuses(self, monkeypatch):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
        with pytest.raises(KasaCordaError, match="deterministic=true has to be known before"):
            set_deterministic(True)
        monkeypatch.setenv(VARIABLE, ":16:8")
        set_deterministic(True)

    def test_a_run_with_it_gives_the_bits_of_a_run_without_on_a_cpu(self, given, tmp_path):
        lines = overrides("lora", given, tmp_path)
        plain, asked = made(*lines), made(*lines, "deterministic=true")
        assert plain.path != asked.path and content(plain)["files"] == content(asked)["files"]


ORIGIN = {
    "date": "2026-01-02T03:04:05+00:00",
    "python": "3.11.9",
    "device": "NVIDIA H100",
    "git": {"sha": "abc123", "dirty": True},
    "environment": {
        "packages": {"torch": "2.9.0+cu128", "kasa-corda": "0.1.0", "peft": "0.21.0"},
        "cuda": "12.8",
        "platform": "Linux",
    },
}


class TestRebuildEnvironment:
    @pytest.fixture
    def main(self, monkeypatch):
        monkeypatch.syspath_prepend(str(ROOT / "scripts"))
        from rebuild_env import main

        return main

    def run(self, folder: Path, provenance: Any) -> Path:
        folder.mkdir(exist_ok=True)
        (folder / "result.json").write_text(json.dumps({"provenance": provenance}))
        return folder

    def test_a_lock_file_pins_every_package_and_names_python_cuda_index_and_commit(self, main, tmp_path, capsys):
        run, out = self.run(tmp_path / "run", ORIGIN), tmp_path / "requirements.lock"
        assert main([str(run), "--out", str(out)]) == 0
        lines = out.read_text().splitlines()
        assert [line for line in lines if not line.startswith("#")] == [
            "--extra-index-url https://download.pytorch.org/whl/cu128",
            "peft==0.21.0",
            "torch==2.9.0+cu128",
        ]
        assert "# Python 3.11.9 on Linux, NVIDIA H100" in lines and "# CUDA 12.8" in lines
        assert "# kasa-corda 0.1.0: git checkout abc123, with uncommitted changes" in out.read_text()

    def test_what_a_run_records_is_what_is_installed(self, main, capsys, tmp_path):
        from importlib.metadata import version

        from kasa_corda.provenance import provenance

        assert main([str(self.run(tmp_path / "run", provenance(["x"])))]) == 0
        text = capsys.readouterr().out
        for name in ("torch", "transformers", "peft", "numpy", "tokenizers", "safetensors", "scipy", "accelerate"):
            assert f"\n{name}=={version(name)}\n" in text
        assert "\npytest==" not in text, "tools of developers decide no result"

    def test_an_older_run_gives_its_main_packages_and_says_so(self, main, tmp_path, capsys):
        old = {"python": "3.11.9", "versions": {"torch": "2.9.0", "peft": "0.21.0"}}
        assert main([str(self.run(tmp_path / "run", old))]) == 0
        text = capsys.readouterr().out
        assert "only recorded its main packages" in text and "torch==2.9.0\n" in text and "index-url" not in text

    @pytest.mark.parametrize(
        ("packages", "sentence"),
        [
            ({"--index-url": "1.0"}, "'--index-url' where the name or version"),
            ({"torch": "1.0\n--index-url=http://x"}, "where the name or version"),
            ({"torch": None}, "None where the name or version"),
            ({}, "names no packages"),
        ],
    )
    def test_what_pip_could_take_for_an_option_is_refused(self, main, tmp_path, capsys, packages, sentence):
        origin = {**ORIGIN, "environment": {"packages": packages}}
        assert main([str(self.run(tmp_path / "run", origin))]) == 2
        assert sentence in capsys.readouterr().err

    def test_directories_without_a_result_are_named(self, main, tmp_path, capsys):
        assert main([str(tmp_path)]) == 2
        assert f"{tmp_path} has no result.json" in capsys.readouterr().err
        assert main([str(self.run(tmp_path / "run", "x"))]) == 2
