"""Texts that outlive a killed evaluation, and texts by vLLM (a stand-in of it) in another Python."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import pytest
import torch
from conftest import compose
from small_language_model import byte_tokenizer, save_language_model, small_llama, write_gsm8k
from synthetic import make_task

from kasa_corda.errors import ConfigError, KasaCordaError
from kasa_corda.evaluation import EVALUATORS
from kasa_corda.evaluation.base import WithinRun
from kasa_corda.evaluation.journal import Journal, prompt_key, remove_journals
from kasa_corda.launch import launch, prepare
from kasa_corda.progress import Progress
from kasa_corda.tasks import Example

SETTINGS = {"decoding": {"max_new_tokens": 4}, "backend": "hf"}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def written(journal, texts):
    journal.open(**SETTINGS)
    journal.add(((key, 0), text) for key, text in texts.items())
    journal.close()


def test_texts_come_back_under_the_same_settings_only(tmp_path):
    written(Journal(tmp_path, "test", "best, 7"), {"a": "one\ntwo", "b": "ü"})
    assert Journal(tmp_path, "test", "best, 7").open(**SETTINGS) == {("a", 0): "one\ntwo", ("b", 0): "ü"}
    assert Journal(tmp_path, "test_last", "best, 7").open(**SETTINGS) == {}
    other = Journal(tmp_path, "test", "best, 8")
    assert other.open(**SETTINGS) == {}
    assert Journal(tmp_path, "test", "best, 7").open(**SETTINGS) == {}  # what no longer fits was overwritten
    assert prompt_key("a", [1, 2]) != prompt_key("a", [1, 3]) != prompt_key("b", [1, 3])


@pytest.mark.parametrize(
    "torn", ['{"id": "c", "sam', '{"id": "c", "sample": 0, "text": "whole but no line end"}', "\x00"]
)
def test_a_torn_last_line_is_left_out_and_written_over(tmp_path, torn):
    written(Journal(tmp_path, "test", "best"), {"a": "one"})
    with (tmp_path / "test.partial.jsonl").open("a") as file:
        file.write(torn)
    written(Journal(tmp_path, "test", "best"), {"d": "four"})
    assert Journal(tmp_path, "test", "best").open(**SETTINGS) == {("a", 0): "one", ("d", 0): "four"}


def test_every_process_writes_its_own_file_and_all_read_all(tmp_path, monkeypatch):
    def on(rank, work):
        monkeypatch.setattr("accelerate.PartialState", lambda: SimpleNamespace(process_index=rank, num_processes=2))
        return work(Journal(tmp_path, "test", "best"))

    for rank in (0, 1):
        on(rank, lambda journal: written(journal, {f"from {journal_rank(journal)}": "text"}))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["test.partial.1.jsonl", "test.partial.jsonl"]
    read = [on(rank, lambda journal: journal.open(**SETTINGS)) for rank in (0, 1)]
    assert not set(read[0]) & set(read[1])  # each reads a part, which gather_object puts together
    monkeypatch.undo()
    assert set(Journal(tmp_path, "test", "best").open(**SETTINGS)) == {("from 0", 0), ("from 1", 0)}
    remove_journals(tmp_path)
    assert not list(tmp_path.iterdir())


def journal_rank(journal):
    import accelerate

    return accelerate.PartialState().process_index


class Killed(Exception):
    pass


def test_a_killed_evaluation_generates_only_what_is_left(tmp_path, monkeypatch):
    model, tokenizer = small_llama().eval(), byte_tokenizer()
    task = make_task("nq_open", prompt="{question}:", max_new_tokens=6)
    examples = [Example(str(n), "q" * n, label=["yes"]) for n in range(1, 9)]

    def evaluator():
        made = EVALUATORS["generation"](EVALUATORS["generation"].Config("generation", batch_size=2))
        made.run = WithinRun(journal=Journal(tmp_path, "test", "best"))
        return made

    def scored(made, model=model):
        return made.evaluate(model, tokenizer, task, examples, Progress(show=False), only="exact_match")

    whole = scored(evaluator())
    remove_journals(tmp_path)
    add = Journal.add
    done = []

    def killed_after_three(journal, rows):
        add(journal, rows)
        done.append(1)
        if len(done) == 3:
            raise Killed

    monkeypatch.setattr(Journal, "add", killed_after_three)
    with pytest.raises(Killed):
        scored(evaluator())
    monkeypatch.setattr(Journal, "add", add)
    seen = []
    hook = model.register_forward_pre_hook(
        lambda module, given, named: seen.append(named["input_ids"].shape), with_kwargs=True
    )
    again = scored(evaluator())
    hook.remove()
    assert again.rows == whole.rows
    assert sum(rows for rows, tokens in seen if tokens > 1) == len(examples) - 3
    assert again.settings == {
        "backend": "hf",
        "batch_size": 2,
        "batch_size_used": 2,
        "bos": None,
        "padding": {"side": "left", "token": "<pad>"},
        "stop": task.config.stop,
        "decoding": again.settings["decoding"],
        "dtype": "float32",
    }
    assert again.settings["decoding"]["max_new_tokens"] == 6


VLLM = '''
"""A stand-in of vLLM: greedy texts by transformers, and a record of what it was given."""
import json, os, sys
from types import SimpleNamespace
__version__ = "0.0.stub"
if os.environ.get("VLLM_BROKEN"):
    raise ImportError("no kernel image")
class SamplingParams:
    def __init__(self, **given):
        self.__dict__.update(given)
class LLM:
    def __init__(self, model, **given):
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer
        self.model, self.tokenizer = AutoModelForCausalLM.from_pretrained(model), AutoTokenizer.from_pretrained(model)
        self.given = given
    def generate(self, prompts, parameters):
        if os.environ.get("VLLM_FAILS"):
            raise RuntimeError("engine core died")
        sys.path.insert(0, ROOT)
        from kasa_corda.evaluation._greedy import Stopping, greedy
        with open(RECORD, "w") as file:
            json.dump({"given": self.given, "parameters": [vars(p) for p in parameters]}, file)
        limit = parameters[0].max_tokens
        texts = greedy(self.model.eval(), self.tokenizer, [p["prompt_token_ids"] for p in prompts], Stopping(limit))
        return [SimpleNamespace(outputs=[SimpleNamespace(text=text, token_ids=[0] * len(text))]) for text in texts]
'''


@pytest.fixture
def vllm(tmp_path, monkeypatch):
    from pathlib import Path

    root, record = Path(__file__).parents[1], tmp_path / "given.json"
    (tmp_path / "stub").mkdir()
    text = VLLM.replace("ROOT", repr(str(root))).replace("RECORD", repr(str(record)))
    (tmp_path / "stub" / "vllm.py").write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "stub"))
    return record


@pytest.fixture
def run(tmp_path):
    llama = save_language_model(tmp_path / "llama")
    write_gsm8k(tmp_path / "data")
    common = ["task=gsm8k", "model=local", f"model.path={llama}", f"data_dir={tmp_path / 'data'}", "method=kasa"]
    common += [f"run_root={tmp_path / 'runs'}", "task.max_length=128", "task.max_new_tokens=8", "method.rank=4"]
    common += ["task.prompt='{question}:'", "task.test_examples=5", "trainer.max_steps=2", "trainer.batch_size=4"]
    common += ["trainer.learning_rate=0.1"]

    def made(*overrides):
        config, directory = prepare(compose(*common, *overrides))
        return launch(config, directory, ["test"]), directory

    return made


def test_vllm_gets_the_merged_model_and_writes_the_same_answers(run, vllm):
    result, directory = run()
    assert not list((directory.path / "predictions").glob("*partial*"))
    assert result["evaluation"]["backend"] == "hf" and result["evaluation"]["stop"]
    other, by_vllm = run("evaluator.backend=vllm", f"evaluator.vllm_python={sys.executable}")
    assert by_vllm.path != directory.path and other["evaluation"]["backend"] == "vllm"
    texts = [[row["text"] for row in d.predictions("test")] for d in (directory, by_vllm)]
    assert texts[0] == texts[1] and len(set(texts[0])) > 1
    assert other["best"]["test"] == pytest.approx(result["best"]["test"], rel=1e-5)
    given = json.loads(vllm.read_text())
    assert given["given"]["dtype"] == "float32" and given["parameters"][0]["temperature"] == 0.0
    assert given["parameters"][0]["stop"] == result["evaluation"]["stop"]
    assert not list(by_vllm.path.glob(".vllm*"))


def test_what_vllm_lacks_is_said_before_a_model_is_loaded(run, vllm, monkeypatch, tmp_path):
    with pytest.raises(ConfigError, match=r"evaluator\.vllm_python=/path"):
        run("evaluator.backend=vllm")
    with pytest.raises(ConfigError, match="can't be run"):
        run("evaluator.backend=vllm", f"evaluator.vllm_python={tmp_path}/python")
    with pytest.raises(ConfigError, match="method=loreft can't be merged"):
        run("method=loreft", "evaluator.backend=vllm", f"evaluator.vllm_python={sys.executable}")
    with pytest.raises(ConfigError, match=r"task.num_beams=2: vLLM"):
        run("task.num_beams=2", "evaluator.backend=vllm", f"evaluator.vllm_python={sys.executable}")
    monkeypatch.setenv("VLLM_FAILS", "1")
    with pytest.raises(KasaCordaError, match="engine core died"):
        run("evaluator.backend=vllm", f"evaluator.vllm_python={sys.executable}")
    monkeypatch.setenv("VLLM_BROKEN", "1")
    with pytest.raises(ConfigError, match="no kernel image"):
        run("evaluator.backend=vllm", f"evaluator.vllm_python={sys.executable}")
