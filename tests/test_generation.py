"""Greedy generation, likelihoods and perplexity against plain computations, and whole runs on a small Llama."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace

import pytest
import torch
from conftest import compose
from small_language_model import byte_tokenizer, save_language_model, small_llama, write_gsm8k, write_open_qa
from synthetic import make_task

from kasa_corda.errors import DataError
from kasa_corda.evaluation import EVALUATORS
from kasa_corda.evaluation._greedy import Stopping, greedy
from kasa_corda.evaluation._likelihood import bounded_batches
from kasa_corda.evaluation.generation import shared_out
from kasa_corda.evaluation.perplexity import perplexity
from kasa_corda.launch import launch, prepare
from kasa_corda.progress import Progress
from kasa_corda.tasks import Example

PROMPTS = ["a", "What is it?", "Q: one two three\nA:", "x" * 40, "yes", "\n\n", "seven", "8"]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """So small a model gains nothing from several, and waits for them where cores are shared."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def model():
    return small_llama().eval()


@pytest.fixture(scope="module")
def tokenizer():
    return byte_tokenizer()


def ids(tokenizer, texts):
    return [tokenizer(text)["input_ids"] for text in texts]


def plainly(model, prompt: list[int], steps: int) -> list[int]:
    """Greedy tokens without cache, padding or batch."""
    grown = list(prompt)
    for _ in range(steps):
        with torch.no_grad():
            grown.append(int(model(torch.tensor([grown])).logits[0, -1].argmax()))
    return grown[len(prompt) :]


def test_greedy_is_the_most_likely_token_at_every_step(model, tokenizer):
    prompts = ids(tokenizer, PROMPTS)
    expected = []
    for prompt in prompts:
        tokens = plainly(model, prompt, 12)
        tokens = tokens[: tokens.index(1)] if 1 in tokens else tokens
        expected.append(tokenizer.decode(tokens, skip_special_tokens=True))
    assert greedy(model, tokenizer, prompts, Stopping(12)) == expected
    assert len(set(expected)) > 4


@pytest.mark.parametrize("architecture", ["gpt2", "gemma", "qwen2"])
def test_the_batch_changes_nothing(architecture, model, tokenizer):
    from small_models import small
    from transformers import AutoModelForCausalLM

    from kasa_corda.models.empty import transformers_config

    config = transformers_config(small(architecture, vocab_size=258, max_positions=128))
    config.initializer_range = 0.2
    other = AutoModelForCausalLM.from_config(config).eval()
    for tested in (model, other):
        prompts = ids(tokenizer, PROMPTS)
        together = greedy(tested, tokenizer, prompts, Stopping(24, ["e", "A"]))
        assert together == [greedy(tested, tokenizer, [prompt], Stopping(24, ["e", "A"]))[0] for prompt in prompts]


def test_an_answer_ends_before_its_first_stop_text_and_every_row_is_reported(model, tokenizer):
    prompts, told = ids(tokenizer, PROMPTS), []
    free = greedy(model, tokenizer, prompts, Stopping(16))
    stop = free[0][3:5]
    stopped = greedy(model, tokenizer, prompts, Stopping(16, [stop]), told.append)
    assert stopped == [text.partition(stop)[0] for text in free]
    assert sum(told) == len(prompts)
    assert Stopping(1, ["\n", ".", ","]).cut(" Rome, Italy.") == " Rome"


def test_answer_likelihood_is_the_geometric_mean_probability_of_the_reference_tokens(model, tokenizer):
    task = make_task("nq_open", prompt="{question}:", max_new_tokens=4)
    examples = [Example(str(n), "q" * n, label=["yes"], target=" yes" * n) for n in (1, 3, 7)]
    logs = []
    for example in examples:
        prompt, answer = ids(tokenizer, [f"{example.text}:", example.target])
        with torch.no_grad():
            logits = model(torch.tensor([prompt + answer])).logits[0].log_softmax(-1)
        logs.append([float(logits[len(prompt) + i - 1, token]) for i, token in enumerate(answer)])
    for batch_size in (1, 8):
        evaluator = EVALUATORS["generation"](EVALUATORS["generation"].Config("generation", batch_size=batch_size))
        found = evaluator.evaluate(model, tokenizer, task, examples, Progress(show=False))
        flat = [value for row in logs for value in row]
        assert found.scores["answer_likelihood"] == pytest.approx(math.exp(sum(flat) / len(flat)), rel=1e-5)
        for row, values in zip(found.rows, logs, strict=True):
            assert row["answer_nll"] == pytest.approx(-sum(values) / len(values), rel=1e-5)
            assert row["answer_tokens"] == len(values) and row["score"] in (0.0, 1.0)
    only = evaluator.evaluate(model, tokenizer, task, examples, Progress(show=False), only="answer_likelihood")
    assert set(only.scores) == {"answer_likelihood"} and "text" not in only.rows[0]


def test_forward_batches_hold_every_row_once_and_stay_within_the_tokens():
    batches = bounded_batches([5, 100, 7, 7, 40], batch_size=3, tokens=81)
    assert batches == [[1], [4, 2], [3, 0]]


def test_processes_share_out_the_batches_and_none_is_done_twice(monkeypatch):
    parts = []
    for rank in (0, 1):
        monkeypatch.setattr("accelerate.PartialState", lambda: SimpleNamespace(process_index=rank, num_processes=2))  # noqa: B023
        monkeypatch.setattr("accelerate.utils.gather_object", lambda mine: parts.extend(mine) or list(mine))
        shared_out([[3, 0], [1], [2, 4]], lambda batch, processes: [10 * i * processes for i in batch])
    assert sorted(parts) == [(i, 20 * i) for i in range(5)]


def test_perplexity_weighs_every_token_of_windows_that_do_not_overlap(model, tokenizer):
    texts = ["It was the best of times,", "it was the worst of times."]
    tokens = tokenizer("\n\n".join(texts))["input_ids"]
    window, logs = 16, []
    for start in range(0, len(tokens), window):
        piece = tokens[start : start + window]
        with torch.no_grad():
            logits = model(torch.tensor([piece])).logits[0].log_softmax(-1)
        logs.append([float(logits[i, token]) for i, token in enumerate(piece[1:])])
    assert 1 < len(logs[-1]) < window - 1
    for batch_size in (1, 3):
        whole = perplexity(model, tokenizer, texts, window, batch_size=batch_size)
        flat = [value for piece in logs for value in piece]
        assert whole.value == pytest.approx(math.exp(-sum(flat) / len(flat)), rel=1e-5)
        assert (whole.tokens, whole.windows) == (len(flat), len(logs))
    papers = perplexity(model, tokenizer, texts, window, whole_windows=True)
    flat = [value for piece in logs[:-1] for value in piece]
    assert papers.value == pytest.approx(math.exp(-sum(flat) / len(flat)), rel=1e-5)
    with pytest.raises(DataError, match="windows of 64 tokens"):
        perplexity(model, tokenizer, texts, 64, whole_windows=True)


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return save_language_model(tmp_path_factory.mktemp("model") / "llama")


@pytest.fixture
def train(llama, tmp_path):
    """A run in this process; gives its result and its directory."""
    write_open_qa(write_gsm8k(tmp_path / "data"))
    common = ["task=gsm8k", "model=local", f"model.path={llama}", f"data_dir={tmp_path / 'data'}"]
    common += [
        f"run_root={tmp_path / 'runs'}",
        "task.max_length=128",
        "task.max_new_tokens=24",
        "task.prompt={question}:",
    ]
    quoted = [
        f"{key}='{value}'" if "{" in value else f"{key}={value}" for key, _, value in (c.partition("=") for c in common)
    ]

    def run(*overrides):
        config, directory = prepare(compose(*quoted, *overrides))
        return launch(config, directory, ["test"]), directory

    return run


def test_train_save_load_predict_and_what_is_forgotten(train, capsys):
    from kasa_corda.predict import main
    from kasa_corda.trained import load_run

    steps = ["trainer.max_steps=5", "trainer.batch_size=8", "task.test_examples=6", "task.also_evaluate=[nq_open]"]
    result, directory = train("method=lora", "method.rank=4", "method.target_modules=all_linear", *steps)
    names = ("exact_match", "answer_likelihood")
    rules = ("exact_match_paper", "exact_match_robust")
    assert set(result["best"]["test"]) == {*names, *rules, "nq_open_f1", *(f"nq_open_{name}" for name in names)}
    assert (
        set(result["best"]["select"]) == {"answer_likelihood"} and 0 < result["best"]["test"]["answer_likelihood"] < 1
    )
    assert result["data"]["counts"] == {"train": 36, "select": 4, "test": 6, "nq_open": 6}
    rows = directory.predictions("test")
    assert all("score" in row for row in rows) and not any("score" in row for row in directory.predictions("nq_open"))
    task = load_run(directory.path).task
    questions = {e.id: e.text for e in task.load(directory.path.parents[4] / "data", "held_out").test["test"]}
    answers = load_run(directory.path).predict([questions[row["id"]] for row in rows])
    assert [(a["answer"], a["generated"]) for a in answers] == [(row["prediction"], row["text"]) for row in rows]
    assert main([str(directory.path), "--text", questions[rows[0]["id"]]]) == 0
    assert json.loads(capsys.readouterr().out)["generated"] == rows[0]["text"]


def test_overfitting_one_example_makes_its_answer_right(train, tmp_path):
    from small_language_model import sum_problem, write_jsonl

    for split in ("train", "test"):
        write_jsonl(tmp_path / "data" / "gsm8k" / f"{split}.jsonl", [sum_problem(7)])
    fast = ["trainer.max_steps=60", "trainer.batch_size=1", "trainer.learning_rate=1e-2", "trainer.evaluate_every=60"]
    result, directory = train("method=full", "selection=paper", "task.max_new_tokens=48", *fast)
    (row,) = directory.predictions("test")
    assert row["text"] == "7000+7=7007\nThe answer is: 7007"
    assert result["best"]["test"]["exact_match"] == 1 and result["best"]["test"]["answer_likelihood"] > 0.9


def test_accumulation_gives_the_same_losses(train):
    losses = []
    for parts in (1, 4):
        steps = ["trainer.max_steps=4", "trainer.batch_size=8", "trainer.log_every=1", f"trainer.accumulation={parts}"]
        _, directory = train("method=lora", "task.test_examples=1", *steps)
        losses.append([e["loss"] for e in directory.metrics() if e["event"] == "train"])
    assert len(losses[0]) == 4 and losses[0] == pytest.approx(losses[1], rel=1e-5)
