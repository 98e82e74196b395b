"""Instruction data in its original layouts, its offline metrics, and MT-Bench's two turns."""

from __future__ import annotations

import json
import math
import random
import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_language_model import byte_tokenizer, small_llama, write_jsonl
from synthetic import make_task

from kasa_corda.errors import ConfigError, DataError
from kasa_corda.evaluation import EVALUATORS
from kasa_corda.evaluation._greedy import Stopping, greedy
from kasa_corda.evaluation.rouge import ROUGE, common_subsequence, rouge
from kasa_corda.progress import Progress
from kasa_corda.tasks import Example
from kasa_corda.tasks._rows import Row
from kasa_corda.tasks.instructions import first_exchange

SYNTHETIC = [f"synthetic/{name}" for name in ("summarization", "classification", "coding", "closed_qa")]


def write_alpaca(folder, rows=None, count=400):
    rows = rows or [
        {"instruction": f"Say {i}.", "input": f"the {i}" if i % 2 else "", "output": f"It is {i}."}
        for i in range(count)
    ]
    (folder / "alpaca").mkdir(parents=True, exist_ok=True)
    (folder / "alpaca" / "alpaca_data_cleaned.json").write_text(json.dumps(rows), encoding="utf-8")
    return folder


def exchange(i):
    return [{"role": "user", "content": f"Sum up {i}."}, {"role": "assistant", "content": f"Short {i}."}]


def write_messages(folder, name):
    for split, count in (("train", 40), ("test", 8)):
        rows = [{"prompt": f"Sum up {i}.", "messages": exchange(f"{split} {i}")} for i in range(count)]
        write_jsonl(folder / name / f"{split}.jsonl", rows)
    return folder


def question(number, category="writing", **changes):
    row = {"question_id": number, "category": category, "turns": [f"First {number}?", "And shorter?"]}
    return {**row, **({"reference": ["4", "5"]} if category == "math" else {}), **changes}


def write_mt_bench(folder, rows=None):
    write_jsonl(folder / "mt_bench" / "question.jsonl", rows or [question(81), question(111, "math")])
    return folder


@pytest.fixture(scope="module")
def tokenizer():
    return byte_tokenizer()


@pytest.fixture(scope="module")
def model():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield small_llama().eval()
    torch.set_num_threads(before)


def test_alpaca_prompts_have_the_published_wording_with_and_without_input(tmp_path):
    task = make_task("alpaca")
    data = task.load(write_alpaca(tmp_path), "held_out")
    examples = {e.text: e for e in (*data.train, *data.select, *data.test["test"])}
    assert len(examples) == 400 and 0 < len(data.test["test"]) < 20
    assert any("no training file" in note for note in data.notes)
    alone, given_one = task.prompt_of(examples["Say 2."]), task.prompt_of(examples["Say 3."])
    assert alone.startswith("Below is an instruction that describes a task. Write a response that")
    assert alone.endswith("\n\n### Instruction:\nSay 2.\n\n### Response:")
    assert given_one.startswith("Below is an instruction that describes a task, paired with an input that provides")
    assert given_one.endswith("\n\n### Instruction:\nSay 3.\n\n### Input:\nthe 3\n\n### Response:")
    assert examples["Say 3."].target == "It is 3."


def test_an_instruction_that_holds_placeholders_is_not_filled_in():
    task = make_task("alpaca")
    prompt = task.prompt_of(Example("0", "Explain {input} and {question}.", "x{question}x"))
    assert "Explain {input} and {question}.\n\n### Input:\nx{question}x\n\n" in prompt


def test_without_a_prompt_of_its_own_an_input_follows_the_instruction():
    task = make_task("alpaca", prompt="Q {question} A", prompt_with_input=None)
    assert task.prompt_of(Example("0", "Do it", "to this")) == "Q Do it\n\nto this A"


def test_empty_responses_are_left_out_and_counted(tmp_path):
    rows = [{"instruction": f"Say {i}.", "input": None, "output": "" if i < 3 else "yes"} for i in range(300)]
    data = make_task("alpaca").load(write_alpaca(tmp_path, rows), "held_out")
    assert len(data.train) + len(data.select) + len(data.test["test"]) == 297
    assert "3 examples with an empty response left out" in data.notes


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"messages": exchange(1)}, ("Sum up 1.", "Short 1.")),
        (
            {"messages": [{"role": "system", "content": "Be brief."}, *exchange(1)]},
            ("Be brief.\n\nSum up 1.", "Short 1."),
        ),
        ({"messages": [*exchange(1), *exchange(2)]}, ("Sum up 1.", "Short 1.")),
        ({"conversations": [{"from": "human", "value": " Hi "}, {"from": "gpt", "value": "Yo"}]}, ("Hi", "Yo")),
        ({"conversation": [{"human": "Hi", "assistant": "Yo"}, {"human": "x", "assistant": "y"}]}, ("Hi", "Yo")),
        ({"human": "Hi", "assistant": "Yo"}, ("Hi", "Yo")),
    ],
)
def test_the_first_exchange_of_a_conversation_counts_in_every_layout(values, expected):
    assert first_exchange(Row(values, "file, line 1"), ["messages", "conversations", "conversation"]) == expected


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"prompt": "Hi"}, "none of messages, conversations, conversation is there; found prompt"),
        ({"messages": "Hi"}, "'Hi' is not a list of turns"),
        ({"messages": []}, "is not a list of turns"),
        ({"messages": ["Hi", "Yo"]}, "is not a list of turns"),
        ({"messages": exchange(1)[:1]}, "begins with user, not with a user and an assistant"),
        ({"messages": exchange(1)[::-1]}, "begins with assistant, user, not with"),
        ({"messages": [{"role": "user", "content": None}]}, "is not a turn with role and content"),
        ({"messages": [{"role": "user", "content": " "}, exchange(1)[1]]}, "the user's first turn is empty"),
        ({"conversation": [{"human": 3, "assistant": "x"}]}, "'human': 3 is not a text"),
        ({"conversation": [{"human": "Hi", "assistant": 3}]}, "'assistant': 3 is not a text"),
    ],
)
def test_damaged_conversations_are_named_with_their_line(values, sentence, tmp_path):
    write_messages(tmp_path, "no_robots")
    write_jsonl(tmp_path / "no_robots" / "train.jsonl", [{"messages": exchange(0)}, values])
    with pytest.raises(DataError) as caught:
        make_task("no_robots").load(tmp_path, "held_out")
    assert sentence in str(caught.value) and "train.jsonl, line 2" in str(caught.value)


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({"input": "", "output": "x"}, "'instruction' is missing"),
        ({"instruction": "", "output": "x"}, "'instruction': '' is not a text"),
        ({"instruction": "x", "input": ""}, "'output' is missing"),
        ({"instruction": "x", "input": ["y"], "output": "x"}, "'input': ['y'] is not a text"),
        ({"instruction": "x", "output": 3}, "'output': 3 is not a text"),
    ],
)
def test_damaged_alpaca_rows_are_named(row, sentence, tmp_path):
    with pytest.raises(DataError) as caught:
        make_task("alpaca").load(write_alpaca(tmp_path, [row]), "held_out")
    assert sentence in str(caught.value) and "alpaca_data_cleaned.json, line 1" in str(caught.value)


@pytest.mark.parametrize("name", ["no_robots", *SYNTHETIC])
def test_conversation_tasks_keep_the_contract(name, tmp_path):
    task = make_task(name)
    data = task.load(write_messages(tmp_path, name), "held_out")
    assert (len(data.train), len(data.select), len(data.test["test"])) == (36, 4, 8)
    for split in data.splits().values():
        assert split and all(e.text and e.label and e.target for e in split)
        assert len({e.id for e in split}) == len(split)
    assert task.load(tmp_path, "held_out").fingerprint == data.fingerprint


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"select_by": "judge_score"}, "would ask the judge at every epoch"),
        ({"fields": {"question": "q"}}, "task.fields=question is unknown"),
        ({"prompt_with_input": "{question}"}, "must hold {question} and {input}"),
        ({"metric": "rouge3"}, "task.metric=rouge3 is unknown"),
    ],
)
def test_impossible_settings_are_refused(changes, sentence):
    with pytest.raises(ConfigError) as caught:
        make_task("alpaca", **changes)
    assert sentence in str(caught.value)


words = st.lists(st.sampled_from(["the", "cat", "sat", "on", "a", "mat", "x1", "-", "é", "The"]), max_size=25)


@settings(max_examples=30, deadline=None)
@given(words, words)
def test_rouge_equals_the_library(first, second):
    from rouge_score.rouge_scorer import RougeScorer

    prediction, reference = " ".join(first), "\n".join(second)
    expected = RougeScorer(list(ROUGE)).score(reference, prediction)
    found = rouge(prediction, reference)
    assert found == {name: pytest.approx(expected[name].fmeasure, abs=1e-12) for name in ROUGE}


@settings(max_examples=20, deadline=None)
@given(st.text(max_size=300), st.text(max_size=300))
def test_rouge_takes_any_text(prediction, reference):
    assert all(0 <= value <= 1 for value in rouge(prediction, reference).values())


def test_rouge_of_two_long_texts_stays_below_50_ms():
    generator = random.Random(0)
    first, second = (" ".join(generator.choices(["ab", "cd", "ef", "gh"], k=2000)) for _ in range(2))
    rouge(first, second)
    began = time.perf_counter()
    rouge(first, second)
    assert time.perf_counter() - began < 0.05
    assert common_subsequence("abcbdab", "bdcaba") == 4


def test_offline_metrics_are_rouge_loss_and_perplexity(model, tokenizer):
    task = make_task("alpaca", prompt="{question}:", prompt_with_input=None, max_new_tokens=4)
    examples = [Example(str(i), f"Say {i}", "now" if i else None, ["It is"], "It is") for i in range(3)]
    evaluator = EVALUATORS["generation"](EVALUATORS["generation"].Config("generation"))
    found = evaluator.evaluate(model, tokenizer, task, examples, Progress(show=False))
    assert set(found.scores) == {*ROUGE, "answer_likelihood"} == set(found.errors)
    for row in found.rows:
        assert row["score"] == row["rougeL"] == rouge(row["prediction"], "It is")["rougeL"]
    assert found.rows[1]["turns"] == ["Say 1\n\nnow"] and found.rows[1]["references"] == ["It is"]
    combined = task.combine({"test": found.scores})
    nll = sum(row["answer_nll"] * row["answer_tokens"] for row in found.rows) / sum(
        r["answer_tokens"] for r in found.rows
    )
    assert combined["loss"] == pytest.approx(nll)
    assert combined["perplexity"] == pytest.approx(math.exp(nll))


CHAT = (
    "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)


def chat_tokenizer():
    made = byte_tokenizer()
    made.chat_template = CHAT
    return made


def test_the_chat_template_takes_the_place_of_the_prompt():
    task = make_task("alpaca", chat="{question}")
    assert task.prompt_texts([Example("0", "Do it", "to this")], chat_tokenizer()) == [
        "[user]Do it\n\nto this[assistant]"
    ]


def test_mt_bench_has_no_target_and_keeps_references_and_categories(tmp_path):
    task = make_task("mt_bench")
    data = task.load(write_mt_bench(tmp_path), "none")
    assert data.train == [] and [e.id for e in data.test["test"]] == ["test-81", "test-111"]
    assert all(e.target is None for e in data.test["test"])
    assert [e.label["references"] for e in data.test["test"]] == [None, ["4", "5"]]
    assert any("2 examples, published are 80" in note for note in data.notes)


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        (question(1, turns=["one"]), "1 turns; MT-Bench has 2"),
        (question(1, turns="one"), "'turns': 'one' is not a list of texts"),
        (question(1, reference=["one"]), "1 references for 2 turns"),
        (question(1, category=None), "'category': None is not a text"),
        (question(None), "'question_id': None is not a number"),
        (question(7), "question_id 7 stands twice"),
    ],
)
def test_damaged_questions_are_named(row, sentence, tmp_path):
    with pytest.raises(DataError) as caught:
        make_task("mt_bench").load(write_mt_bench(tmp_path, [question(7), row]), "none")
    assert sentence in str(caught.value)


def test_the_second_turn_goes_on_from_the_models_own_first_answer(model, tokenizer, tmp_path):
    task = make_task("mt_bench", prompt="{question} A:", later_turn=" | {question} A:", max_new_tokens=6, stop=["|"])
    examples = task.load(write_mt_bench(tmp_path), "none").test["test"]
    evaluator = EVALUATORS["generation"](EVALUATORS["generation"].Config("generation"))
    found = evaluator.evaluate(model, tokenizer, task, examples, Progress(show=False))
    stopping = Stopping(6, ["|"])
    for example, row in zip(examples, found.rows, strict=True):
        prompt = f"{example.text} A:"
        (first,) = greedy(model, tokenizer, [tokenizer(prompt)["input_ids"]], stopping)
        later = f"{prompt}{first.strip()} | And shorter? A:"
        (second,) = greedy(model, tokenizer, [tokenizer(later)["input_ids"]], stopping)
        assert row["answers"] == [first.strip(), second.strip()] and row["turns"] == example.label["turns"]
    assert found.rows[0]["answers"] != found.rows[1]["answers"]
    assert math.isnan(found.scores["judge_score"]) and found.notes[0].startswith("not judged: answers are kept")


def test_a_chat_template_gets_the_whole_conversation():
    task = make_task("mt_bench", chat="{question}", system="Be kind.")
    first = Example("test-1", "One?", label={"turns": ["One?", "Two?"], "references": None, "category": "math"})
    (second,) = task.next_turn([first], [["1"]])
    assert task.prompt_texts([first, second], chat_tokenizer()) == [
        "[system]Be kind.[user]One?[assistant]",
        "[system]Be kind.[user]One?[assistant]1[user]Two?[assistant]",
    ]
    assert task.next_turn([first], [["1", "2"]]) == []


def test_prompts_above_the_length_keep_their_end_and_are_counted(tokenizer):
    task = make_task("mt_bench", prompt="{question}", max_length=4)
    assert task.prompts([Example("test-1", "abcdef")], tokenizer) == [tokenizer("cdef")["input_ids"]]
    assert task.truncated == 1
