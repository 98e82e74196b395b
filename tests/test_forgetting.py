"""World knowledge before and after training, its cache, its table; perplexity on running text as a further task."""

from __future__ import annotations

import json
import math

import pytest
import torch
from conftest import compose
from small_language_model import byte_tokenizer, save_language_model, small_llama, write_gsm8k, write_open_qa
from synthetic import make_task

from kasa_corda.cli import listed
from kasa_corda.errors import ConfigError
from kasa_corda.evaluation import EVALUATORS
from kasa_corda.evaluation.base import Evaluation
from kasa_corda.evaluation.forgetting import compared, kept_share, knowledge_average, read, write
from kasa_corda.launch import launch, prepare
from kasa_corda.progress import Progress
from kasa_corda.tasks._further import further_settings

COMMON = ("task=gsm8k", "model=smollm2_135m", "method=lora")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return save_language_model(tmp_path_factory.mktemp("model") / "llama")


def write_text(data_dir, lines: int = 12):
    text = "".join(f" The line {i} of it . \n \n" for i in range(lines))
    (data_dir / "wikitext2").mkdir(parents=True)
    (data_dir / "wikitext2" / "wiki.test.raw").write_text(text, encoding="utf-8")


@pytest.fixture
def train(llama, tmp_path, monkeypatch):
    """A short run in this process; gives its result and its directory."""
    monkeypatch.setenv("KASA_CORDA_CACHE", str(tmp_path / "cache"))
    write_open_qa(write_gsm8k(tmp_path / "data"), count=16)
    write_text(tmp_path / "data")
    common = ["task=gsm8k", "model=local", f"model.path={llama}", f"data_dir={tmp_path / 'data'}"]
    common += [f"run_root={tmp_path / 'runs'}", "task.max_length=128", "task.max_new_tokens=8", "task.test_examples=4"]
    common += ["task.prompt='{question}:'", "trainer.max_steps=3", "trainer.batch_size=4", "trainer.learning_rate=1e-2"]
    common += ["method=lora", "method.rank=2"]

    def run(*overrides, further=None):
        plain = compose(*common, *overrides)
        if further:
            plain["task"]["also_evaluate"] = further
        config, directory = prepare(plain)
        return launch(config, directory, ["test"]), directory

    return run


def base_scores(llama, directory, name: str) -> Evaluation:
    """The base model, loaded anew and evaluated plainly on the examples that the run used."""
    from transformers import AutoModelForCausalLM

    from kasa_corda.trained import load_run

    task = load_run(directory.path).task
    examples = task.load(directory.path.parents[4] / "data", "held_out").test[name]
    model = AutoModelForCausalLM.from_pretrained(llama).eval()
    evaluator = EVALUATORS["generation"](EVALUATORS["generation"].Config("generation", batch_size=64))
    return evaluator.evaluate(model, byte_tokenizer(), task, examples, Progress(show=False))


def test_scores_before_are_the_base_models_and_a_sweep_computes_them_once(train, llama, tmp_path, monkeypatch):
    from kasa_corda.evaluation.generation import GenerationEvaluator

    calls = []
    plain = GenerationEvaluator.evaluate
    monkeypatch.setattr(
        GenerationEvaluator, "evaluate", lambda self, *a, **k: calls.append(a[3][0].task) or plain(self, *a, **k)
    )
    result, directory = train("evaluator.forgetting=[nq_open]")
    found = result["forgetting"]["nq_open"]
    expected = base_scores(llama, directory, "nq_open")
    for metric, value in expected.scores.items():
        assert found["metrics"][metric]["before"] == pytest.approx(value, rel=1e-5)
        assert found["metrics"][metric]["after"] == result["best"]["test"][f"nq_open_{metric}"]
    likelihood = found["metrics"]["answer_likelihood"]
    assert likelihood["kept"] == pytest.approx(likelihood["after"] / likelihood["before"]) != 1.0
    assert found["metric"] == "exact_match" and found["examples"] == len(expected.rows)
    before = directory.predictions("before/nq_open")
    assert [row["text"] for row in before] == [row["text"] for row in expected.rows]
    assert {row["id"] for row in before} == {row["id"] for row in directory.predictions("nq_open")}
    assert result["knowledge_average"] == pytest.approx((result["best"]["test"]["exact_match"] + found["after"]) / 2)
    calls.clear()
    again, other = train("evaluator.forgetting=[nq_open]", "seed=1")
    assert calls.count("nq_open") == 1  # after training; before came from the cache
    assert again["forgetting"]["nq_open"]["before"] == found["before"] and other.path != directory.path
    assert other.predictions("before/nq_open") == before
    (file,) = (tmp_path / "cache" / "forgetting").glob("*.json")
    file.write_text("{ torn", encoding="utf-8")
    calls.clear()
    healed, _ = train("evaluator.forgetting=[nq_open]", "seed=2")
    assert calls.count("nq_open") == 2 and healed["forgetting"]["nq_open"]["before"] == found["before"]
    train("evaluator.forgetting=[nq_open]", "evaluator.batch_size=3")
    assert len(list(file.parent.glob("*.json"))) == 2  # other settings, other scores


def test_asking_what_is_forgotten_changes_nothing_else_of_a_run(train):
    plain, first = train("task.also_evaluate=[nq_open]")
    asked, second = train("evaluator.forgetting=[nq_open]")
    assert "forgetting" not in plain and first.run_id != second.run_id
    assert asked["best"]["test"] == plain["best"]["test"] and asked["loss"] == plain["loss"]
    assert first.predictions("test") == second.predictions("test")


def test_a_table_shows_before_after_and_kept_with_a_paired_test(train, tmp_path):
    from kasa_corda.report import build_report, write_report
    from kasa_corda.report.forgetting import forgetting_grid

    text = further_settings("wikitext2")
    text["wikitext2"]["max_length"] = 64
    for seed in (0, 1):
        train("evaluator.forgetting=[nq_open,webqs,wikitext2]", f"seed={seed}", further=text)
    report = build_report([tmp_path / "runs"])
    header, rows = forgetting_grid(report.tables[0])
    measured = [row[2].text for row in rows]
    assert header[2:6] == ["Measured on", "Before", "After", "Kept, %"]
    assert measured[:3] == ["nq_open (exact_match)", "nq_open (f1)", "nq_open (answer_likelihood)"]
    assert {"webqs (exact_match)", "wikitext2 (perplexity)", "average with the task"} < set(measured)
    likelihood = rows[measured.index("nq_open (answer_likelihood)")]
    assert "±" in likelihood[4].text and likelihood[6].text == "bootstrap, 4 examples" and likelihood[7].text != "-"
    kept = [row[5].value for row in rows]
    share, lower = measured.index("wikitext2 (answer_likelihood)"), measured.index("wikitext2 (perplexity)")
    assert kept[share] == pytest.approx(kept[lower], rel=1e-6)
    assert rows[lower][3].value == pytest.approx(1 / rows[share][3].value, rel=1e-6)
    for file in write_report(report, tmp_path / "report"):
        if file.suffix in (".md", ".html", ".tex"):
            assert "Kept" in file.read_text(encoding="utf-8"), file


def test_a_table_of_runs_that_never_asked_has_no_such_part(train, tmp_path):
    from kasa_corda.report import build_report
    from kasa_corda.report.forgetting import forgetting_grid

    train()
    assert forgetting_grid(build_report([tmp_path / "runs"]).tables[0]) is None


def test_the_run_id_knows_the_request_and_ignores_its_default():
    plain = prepare(compose(*COMMON))[1].run_id
    assert prepare(compose(*COMMON, "evaluator.forgetting=null"))[1].run_id == plain
    forms = ("nq_open", "[nq_open]", "webqs")
    asked = {prepare(compose(*COMMON, f"evaluator.forgetting={form}"))[1].run_id for form in forms}
    assert len(asked) == 2 and plain not in asked
    config, _ = prepare(compose(*COMMON, "evaluator.forgetting=[nq_open,webqs]", "task.also_evaluate=[triviaqa]"))
    assert list(config.task.also_evaluate) == ["triviaqa", "nq_open", "webqs"]
    assert listed("evaluator.forgetting=nq_open,webqs") == "evaluator.forgetting=[nq_open,webqs]"
    assert listed("evaluator.forgetting=[a,b]") == "evaluator.forgetting=[a,b]" and listed("seed=1,2") == "seed=1,2"


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (("task=reviews", "model=minilm", "method=lora"), "evaluator.forgetting=nq_open asks a language model"),
        (("task=gsm8k", "model=minilm", "method=lora"), "generates text, which the encoder model=minilm can't"),
        (("task=glue/rte", "model=smollm2_135m", "method=lora"), "task=glue/rte puts a head on it"),
        (("task=nq_open", "model=smollm2_135m", "method=lora"), "must be another task"),
        ((*COMMON, "evaluator.forgetting=nq_opne"), "evaluator.forgetting=nq_opne is unknown; did you mean nq_open"),
        ((*COMMON, "evaluator.forgetting=commonsense/commonsense_15k"), "evaluates no further ones"),
    ],
)
def test_what_cannot_forget_is_refused_in_a_sentence(overrides, sentence):
    with pytest.raises(ConfigError) as caught:
        prepare(compose("evaluator.forgetting=nq_open", *overrides))
    assert sentence in str(caught.value)


def test_a_model_with_too_few_positions_for_a_further_task_is_refused_before_it_loads(llama):
    short = compose("task=gsm8k", "method=lora", "model=gpt2_medium", "evaluator.forgetting=wikitext2")
    with pytest.raises(ConfigError, match=r"wikitext2 reads 2048 tokens .* 1024 positions"):
        prepare(short)


def test_kept_shares_and_averages_have_every_case_defined():
    assert kept_share("exact_match", 0.5, 0.25) == 0.5 and kept_share("exact_match", 0.0, 0.25) is None
    assert kept_share("perplexity", 5.0, 10.0) == 0.5
    task = make_task("gsm8k", also_evaluate=["nq_open", "webqs"])
    scores = {"test": 0.6, "nq_open": 0.1, "webqs": 0.2}
    after = {name: Evaluation({"exact_match": value}, [{}]) for name, value in scores.items()}
    before = {"nq_open": Evaluation({"exact_match": 0.4, "f1": 0.5}, [{}], {"exact_match": 0.1})}
    assert knowledge_average(task, before, after) == pytest.approx(0.3)
    assert knowledge_average(task, after, after) is None
    scores = {"before": 0.4, "after": 0.1, "kept": 0.25, "errors": [0.1, None]}
    expected = {"metric": "exact_match", **scores, "examples": 1, "metrics": {"exact_match": scores}}
    assert compared(task, before, after) == {"nq_open": expected}


def test_a_stored_evaluation_comes_back_as_it_was(tmp_path):
    outcome = Evaluation({"f1": 0.25}, [{"id": "a", "text": "é\u2028"}], {"f1": 0.1}, ["seen"])
    write(tmp_path / "cache" / "x.json", {"version": 1}, outcome)
    assert read(tmp_path / "cache" / "x.json") == outcome and read(tmp_path / "none.json") is None


@pytest.mark.parametrize("whole", [True, False])
def test_running_text_is_scored_in_windows_as_one_joined_text(whole, tmp_path):
    write_text(tmp_path)
    task = make_task("wikitext2", max_length=32, whole_windows=whole)
    _, test, found = task._examples(tmp_path, False)
    assert [e.text for e in test[:3]] == [" The line 0 of it . \n", "", " The line 1 of it . \n"]
    assert found.notes == ["wiki.test.raw has 24 lines, published are 4,358"]
    model, tokenizer = small_llama().eval(), byte_tokenizer()
    evaluator = EVALUATORS["generation"](EVALUATORS["generation"].Config("generation"))
    outcome = evaluator.evaluate(model, tokenizer, task, test, Progress(show=False))
    ids = tokenizer("\n\n".join(e.text for e in test))["input_ids"]
    logs = []
    for start in range(0, len(ids), 32):
        piece = ids[start : start + 32]
        if len(piece) == 32 or not whole:
            with torch.no_grad():
                logits = model(torch.tensor([piece])).logits[0].log_softmax(-1)
            logs.append([float(logits[i, token]) for i, token in enumerate(piece[1:])])
    flat = [value for window in logs for value in window]
    assert outcome.scores["perplexity"] == pytest.approx(math.exp(-sum(flat) / len(flat)), rel=1e-4)
    assert outcome.scores["answer_likelihood"] == pytest.approx(1 / outcome.scores["perplexity"])
    assert len(outcome.rows) == len(logs) and outcome.rows[0]["answer_tokens"] == 31
    assert json.dumps(outcome.rows) and all(error > 0 for error in outcome.errors.values())
