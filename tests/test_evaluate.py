"""Models scored as they are: method=base, method=adapter, and the command ``python -m kasa_corda.evaluate``."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from conftest import compose
from small_language_model import save_language_model, write_gsm8k, write_open_qa

import kasa_corda
from kasa_corda.cli.evaluate import main, overrides
from kasa_corda.errors import ConfigError, Unfit
from kasa_corda.launch import launch, prepare
from kasa_corda.models.loading import load_tokenizer


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with a small Llama, question data, and one trained run."""
    folder = tmp_path_factory.mktemp("place")
    save_language_model(folder / "llama")
    write_open_qa(write_gsm8k(folder / "data"))
    return folder


def common(place: Path) -> list[str]:
    return [f"data_dir={place / 'data'}", f"run_root={place / 'runs'}", "task.max_length=256", "task.max_new_tokens=8"]


def run(place: Path, *more: str):
    config, directory = prepare(
        compose("task=gsm8k", "model=local", f"model.path={place / 'llama'}", *common(place), *more)
    )
    return launch(config, directory, ["test"]), directory


@pytest.fixture(scope="module")
def trained(place):
    return run(place, "method=kasa", "method.target_modules=all_linear", "trainer.max_steps=3", "trainer.batch_size=4")


def results(place: Path, method: str) -> dict[str, dict]:
    found = (json.loads(p.read_text()) for p in (place / "runs").glob(f"*/llama/{method}/*/result.json"))
    return {result["task"]: result for result in found}


def test_the_command_scores_the_untrained_model_on_every_task_once(place, capsys):
    line = [f"model={place / 'llama'}", "task=gsm8k,nq_open", *common(place)]
    assert main(line) == 0
    shown = capsys.readouterr().out
    assert "2 of 2 cells finished" in shown and "± standard error" in shown
    found = results(place, "base")
    assert set(found) == {"gsm8k", "nq_open"} and found["gsm8k"]["parameters"]["trainable"] == 0
    assert found["gsm8k"]["best"] == found["gsm8k"]["last"] and found["gsm8k"]["best"]["step"] == 0
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(place / "llama")
    in_memory = kasa_corda.evaluate(
        model, load_tokenizer(place / "llama"), "gsm8k", data_dir=str(place / "data"), overrides=common(place)[2:]
    )
    assert found["gsm8k"]["best"]["test"] == pytest.approx(in_memory, rel=1e-6)
    assert main([*line, "trainer.learning_rate=0.5"]) == 0
    assert "2 finished earlier" in capsys.readouterr().out, "nothing of the training can matter"


def test_a_run_directory_is_scored_as_it_was_after_training_and_knows_its_model(place, trained):
    result, directory = trained
    assert main([f"adapter={directory.path}", "task=gsm8k", *common(place)]) == 0
    again = results(place, "adapter")["gsm8k"]
    assert again["best"]["test"] == pytest.approx(result["best"]["test"], rel=1e-5)
    assert again["best"]["test_errors"].keys() == again["best"]["test"].keys()


def test_an_adapter_that_plain_peft_wrote_is_scored_too(place, tmp_path):
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(3)
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(place / "llama"),
        LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False, task_type="CAUSAL_LM"),
    )
    model.save_pretrained(tmp_path / "plain")
    overridden = [*common(place)[:1], f"run_root={tmp_path / 'runs'}", *common(place)[2:]]
    assert main([f"adapter={tmp_path / 'plain'}", "task=gsm8k", *overridden]) == 0
    (file,) = (tmp_path / "runs").glob("gsm8k/llama/adapter/*/result.json")
    expected = kasa_corda.evaluate(
        model, load_tokenizer(place / "llama"), "gsm8k", data_dir=str(place / "data"), overrides=common(place)[2:]
    )
    assert json.loads(file.read_text())["best"]["test"] == pytest.approx(expected, rel=1e-5)


def test_another_adapter_in_the_same_folder_is_another_run(place, trained, tmp_path):
    from safetensors.torch import load_file, save_file

    shutil.copytree(trained[1].path / "adapter", tmp_path / "adapter")
    given = ["method=adapter", f"method.path={tmp_path / 'adapter'}"]

    def run_id() -> str:
        return prepare(compose("task=gsm8k", "model=local", f"model.path={place / 'llama'}", *common(place), *given))[
            1
        ].run_id

    before, weights = run_id(), next((tmp_path / "adapter").glob("*.safetensors"))
    save_file({name: tensor + 1 for name, tensor in load_file(weights).items()}, weights)
    assert run_id() != before


def test_without_the_training_file_the_test_file_is_enough(place, tmp_path):
    shutil.copytree(place / "data" / "gsm8k", tmp_path / "gsm8k")
    (tmp_path / "gsm8k" / "train.jsonl").unlink()
    line = [f"model={place / 'llama'}", "task=gsm8k", f"data_dir={tmp_path}", f"run_root={tmp_path / 'runs'}"]
    assert main([*line, *common(place)[2:]]) == 0


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (["task=gsm8k"], "model is missing"),
        (["model=smollm2_135m"], "task is missing"),
        (["model=smolm2_135m", "task=gsm8k"], "model=smolm2_135m is unknown; did you mean smollm2_135m"),
        (["model=smollm2_135m", "task=gsm8k", "method=lora"], "nothing trains here"),
        (["model=smollm2_135m", "task=gsm8k", "adapter=nowhere"], "holds no adapter.json or adapter_config.json"),
    ],
)
def test_wrong_requests_are_sentences(given, sentence):
    with pytest.raises(ConfigError) as error:
        overrides(given)
    assert sentence in str(error.value)


def test_the_exit_code_of_a_wrong_request_is_2_and_help_is_0(capsys):
    assert main(["model=smollm2_135m", "task=gsmk8"]) == 2
    assert "gsm8k" in capsys.readouterr().err
    assert main(["--help"]) == 0 and "adapter" in capsys.readouterr().out


def test_a_random_head_is_not_scored():
    with pytest.raises(Unfit, match="leaves the head of task=reviews random"):
        prepare(compose("method=base", "task=reviews", "model=minilm"))


def test_pickled_adapters_are_not_opened(place, trained, tmp_path):
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    (tmp_path / "adapter_model.bin").write_bytes(b"x")
    with pytest.raises(Exception, match="pickled weights are not loaded"):
        run(place, "method=adapter", f"method.path={tmp_path}")


def test_a_task_with_a_test_set_only_is_refused_for_training_before_anything_is_loaded(place):
    def given(method: str) -> dict:
        plain = compose("task=gsm8k", f"method={method}", "model=smollm2_135m")
        return {**plain, "task": {**plain["task"], "files": {"test": "test.jsonl"}, "splits": {"test": "test"}}}

    with pytest.raises(Unfit, match="has only a test set"):
        prepare(given("lora"))
    assert prepare(given("base"))


def test_a_trained_run_is_compared_to_the_untrained_model_on_the_same_tests(place, trained):
    from kasa_corda.report.compare import same_data
    from kasa_corda.report.records import read_run

    base = read_run(run(place, "method=base")[1].path)
    ours = read_run(trained[1].path)
    assert base.fingerprints["data.fingerprint"] != ours.fingerprints["data.fingerprint"] and same_data(ours, base)
    fewer = read_run(run(place, "method=base", "task.test_examples=3")[1].path)
    assert not same_data(ours, fewer)


def test_a_comma_list_of_tasks_to_forget_needs_no_brackets(capsys):
    line = ["model=smollm2_135m", "task=gsm8k", "evaluator.forgetting=nq_open,wbqs"]
    assert main(line) == 2
    assert "webqs" in capsys.readouterr().err
