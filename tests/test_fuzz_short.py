"""Malformed input, a short part of ``make fuzz``: one sentence or a result, never a traceback or a hang."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from random import Random

import pytest
from fuzz.cases import BUG, READ, REFUSED, Attempt, tried
from fuzz.damage import HAND, mutated
from fuzz.kinds import Caches, DataFiles, Exchanged, Kind, ModelParts, RunFiles, Trained, stored
from fuzz.samples import Samples
from yaml import YAMLError

from kasa_corda.checkpoint import CheckpointFolder
from kasa_corda.cli import exit_code
from kasa_corda.cli.form import check_form
from kasa_corda.config.validate import typed
from kasa_corda.errors import ConfigError, DataError, KasaCordaError
from kasa_corda.models.local import describe
from kasa_corda.report.records import parse_config
from kasa_corda.store import RunDirectory
from kasa_corda.trained import load_run

SEED = 9


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Samples:
    before = os.environ.get("KASA_CORDA_CACHE")
    folder = tmp_path_factory.mktemp("fuzz")
    os.environ["KASA_CORDA_CACHE"] = str(folder / "cache")
    yield Samples(folder)
    if before is None:
        del os.environ["KASA_CORDA_CACHE"]
    else:
        os.environ["KASA_CORDA_CACHE"] = before


@pytest.mark.parametrize(
    ("kind", "listed", "drawn"), [(DataFiles, 10, 8), (Caches, 40, 20), (RunFiles, 3, 3), (Trained, 6, 3)]
)
def test_damaged_files_end_in_a_result_or_in_one_sentence(kind, listed, drawn, samples, tmp_path):
    tested: Kind = kind(samples, tmp_path / "scratch")
    numbers = [*range(0, tested.hand_made(), max(1, tested.hand_made() // listed)), *range(10**6, 10**6 + drawn)]
    found = [tried(tested.name, tested.attempt(n, Random(f"{SEED} {n}"))) for n in numbers]
    bugs = [f"{outcome.about}: {outcome.story}" for outcome in found if outcome.what == BUG]
    assert not bugs, "\n".join(bugs)
    assert len(found) >= listed + drawn
    assert kind is Caches or any(outcome.what == REFUSED for outcome in found)


PARTS = (
    "10^6 layers",
    "a vocabulary of 10^9",
    "the tokenizer of another model",
    "pickled weights alone",
    "a tensor gone",
)


@pytest.mark.parametrize("name", PARTS)
def test_model_folders_whose_parts_do_not_belong_together_are_refused(name, samples, tmp_path):
    kind = ModelParts(samples, tmp_path / "scratch")
    outcome = tried(kind.name, kind.attempt(list(kind.cases()).index(name), Random(0)))
    assert outcome.what == REFUSED, outcome.story


@pytest.mark.parametrize("damage", ["empty", "cut in half", "every bit flipped", "a safetensors header of 2^60 bytes"])
def test_a_damaged_adapter_is_refused_by_name(damage, samples, tmp_path):
    run = Exchanged(samples, tmp_path / "scratch").fresh(samples.trained("lora"))
    HAND[damage](run / "adapter" / "adapter_model.safetensors")
    for read in (lambda: load_run(run), lambda: stored(samples, run)):
        with pytest.raises(DataError, match=r"adapter in .* can't be put onto this model \("):
            read()


def test_a_run_whose_config_misses_a_group_is_refused_by_name(samples, tmp_path):
    run = Exchanged(samples, tmp_path / "scratch").fresh(samples.trained("lora"))
    (run / "config.yaml").write_text("task: {family: glue}\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"config\.yaml: method\.name is missing"):
        load_run(run)
    deep: dict = {}
    for _ in range(300):
        deep = {"a": deep}
    with pytest.raises(ConfigError, match="nested too deeply"):
        typed({**samples.plain("method=lora"), "seed": deep})
    with pytest.raises(ConfigError, match=r"task\.family is missing"):
        typed({"method": {"name": "lora"}, "task": "glue"})


@pytest.mark.parametrize(
    "damage", ["brackets, 100,000 deep", "a folder", "a link to itself", "a text", "NaN", "a pickle"]
)
@pytest.mark.parametrize("name", ["status.json", "result.json", "config.yaml"])
def test_every_damaged_file_of_a_run_is_named(name, damage, tmp_path):
    (tmp_path / name).write_text("{}", encoding="utf-8")
    HAND[damage](tmp_path / name)
    run = RunDirectory(tmp_path)
    with pytest.raises(KasaCordaError, match=rf"{name} is damaged \(.*\); delete it or rerun with force=true"):
        {"status.json": run.state, "result.json": run.result, "config.yaml": run.config}[name]()


def test_a_status_without_a_known_state_is_damaged_and_one_without_a_process_is_interrupted(tmp_path):
    run = RunDirectory(tmp_path)
    (tmp_path / "status.json").write_text('{"state": ["running"]}', encoding="utf-8")
    with pytest.raises(KasaCordaError, match=r"status\.json is damaged"):
        run.state()
    run.write_status("running", pid="x")
    assert run.state() == "interrupted"


def test_lines_that_are_no_objects_are_left_out(tmp_path):
    (tmp_path / "metrics.jsonl").write_bytes(b'{"step": 1}\n7\n' + b"[" * 100_000 + b'\n\xff\n{"step": 2}\n')
    assert [row["step"] for row in RunDirectory(tmp_path).metrics()] == [1, 2]


def test_weights_far_too_few_for_the_described_model_are_refused_before_it_is_built(samples, tmp_path):
    folder = Exchanged(samples, tmp_path / "scratch").fresh(samples.bert)
    text = (folder / "config.json").read_text(encoding="utf-8")
    (folder / "config.json").write_text(text.replace('"num_hidden_layers": 2', '"num_hidden_layers": 1000000'))
    with pytest.raises(DataError, match="too few for 1,000,000 layers of width 32"):
        describe(folder)


def test_a_checkpoint_that_does_not_fit_is_refused_and_memory_is_not_blamed_on_it(tmp_path):
    checkpoints = CheckpointFolder(tmp_path)
    said = r"doesn't fit this run \(KeyError: 'last'\); rerun with resume=false"
    with pytest.raises(KasaCordaError, match=said), checkpoints.fitting():
        raise KeyError("last")
    with pytest.raises(RuntimeError, match="out of memory"), checkpoints.fitting():
        raise RuntimeError("CUDA out of memory")


@pytest.mark.parametrize(
    ("argument", "says"),
    [
        ("+=", "not of the form key=value"),
        ("++=x", "not of the form key=value"),
        ("--resolve", "add --cfg job"),
        ("--shell-completion", "give install=bash"),
        ("--experimental-rerun=x", "not used here"),
    ],
)
def test_flags_and_forms_that_hydra_trips_over_are_refused(argument, says):
    with pytest.raises(ConfigError, match=says):
        check_form([argument])


def test_a_folder_that_hydra_cannot_use_is_one_sentence(capsys):
    def work() -> int:
        raise FileNotFoundError(2, "No such file or directory", "/proc/x")

    assert exit_code(work, []) == 1
    assert capsys.readouterr().err == "error: /proc/x can't be used (No such file or directory)\n"


def test_a_deeply_nested_config_does_not_end_the_process_of_a_report():
    for text in ("a: " + "[" * 100_000, "a:\n" + "- " * 100_000):
        with pytest.raises((RecursionError, YAMLError)):
            parse_config(text)


def test_an_adapter_of_virtual_tokens_is_not_read_as_another_kind(samples, tmp_path):
    for first, second in (("lora", "prompt_tuning"), ("prompt_tuning", "lora")):
        run = Exchanged(samples, tmp_path / first).fresh(samples.trained(first))
        shutil.rmtree(run / "adapter")
        shutil.copytree(samples.trained(second) / "adapter", run / "adapter")
        with pytest.raises(DataError, match="is of type"):
            load_run(run)


def test_the_fuzzer_tells_bugs_from_refusals(tmp_path):
    def raising(error: BaseException):
        def read():
            raise error

        return read

    (tmp_path / "result.json").write_text("{}")
    assert tried("k", Attempt("", raising(KasaCordaError("one sentence")))).what == REFUSED
    assert tried("k", Attempt("", raising(KasaCordaError("two\nlines")))).what == BUG
    assert tried("k", Attempt("", raising(KeyError("x")))).what == BUG
    assert tried("k", Attempt("", raising(SystemExit(2)))).what == REFUSED
    assert tried("k", Attempt("", raising(KasaCordaError("but a result")), tmp_path)).what == BUG
    assert tried("k", Attempt("", lambda: sys.stderr.write("Traceback (most recent call last)"))).what == BUG
    assert tried("k", Attempt("", lambda: [None for _ in iter(int, 1)] and None), seconds=1).what == BUG
    assert tried("k", Attempt("", lambda: None)).what == READ


def test_a_seed_repeats_its_damage(tmp_path):
    texts = []
    for folder in ("a", "b"):
        path: Path = tmp_path / folder / "status.json"
        path.parent.mkdir()
        path.write_text('{"state": "finished", "pid": 7, "deep": {"a": [1, 2]}}', encoding="utf-8")
        about = [mutated(path, Random(SEED)) for _ in range(3)]
        texts.append((about, path.read_bytes()))
    assert texts[0] == texts[1]
