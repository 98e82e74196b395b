"""Miniatures: right answers, no example in both splits, the same on every machine, no file needed."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from collections import Counter
from types import SimpleNamespace

import pytest
from conftest import ROOT, compose
from small_language_model import save_language_model
from synthetic import make_task

from kasa_corda.cli.suites import read_suite
from kasa_corda.errors import ConfigError
from kasa_corda.launch import launch, prepare
from kasa_corda.report.improvement import improvement_notes
from kasa_corda.tasks._splits import text_key
from kasa_corda.tasks.miniature import NAMES, rows_of
from kasa_corda.tasks.miniature.choices import KINDS
from kasa_corda.tasks.miniature.facts import ANSWERS

TRAINED = sorted(set(NAMES) - {"known_facts"})
DIGESTS = {
    "arithmetic": "3be98ac4f2d6",
    "choices": "b05ab8749a15",
    "facts": "1317e42ca8c6",
    "functions": "8cfcfed17dc7",
    "instructions": "3d7283b498e8",
    "known_facts": "b5dd1ef604b0",
    "restaurants": "cdbc72821e6d",
}
"""sha256 over all rows; a change changes what earlier runs were evaluated on: raise task.version"""


def values(name: str, split: str) -> list[dict]:
    return [row.values for row in rows_of(name, split)]


@pytest.mark.parametrize("name", NAMES)
def test_every_machine_generates_the_same_rows(name):
    made = json.dumps([values(name, split) for split in ("train", "test")], sort_keys=True)
    assert hashlib.sha256(made.encode()).hexdigest()[:12] == DIGESTS[name]


@pytest.mark.parametrize("name", TRAINED)
def test_another_seed_gives_other_rows(name):
    assert [row.values for row in rows_of(name, "train", seed=1)] != values(name, "train")


@pytest.mark.parametrize("name", TRAINED)
def test_no_text_stands_twice_or_in_both_splits(name):
    data = make_task(f"pocket/{name}").load(None, "held_out")
    train, select, test = ([text_key(e) for e in split] for split in (data.train, data.select, data.test["test"]))
    assert not set(test) & {*train, *select} and not set(train) & set(select)
    assert len(set(test)) == len(test) and len(set(train)) == len(train)
    assert len(train) >= 40 and len(select) >= 4 and len(test) >= 24
    assert not any("also in the training set" in note for note in data.notes)
    assert data.source == f"generator {name}" and all(e.target for e in data.train)


def test_word_problems_have_the_answer_that_their_words_say():
    signs = {"finds": 1, "loses": -1, "sells": -1, "buys": 1, "gets": 1, "then": 1}
    for row in values("arithmetic", "train") + values("arithmetic", "test"):
        words = re.findall(r"\w+", row["question"])
        total = int(words[2])
        for place, word in enumerate(words):
            following = words[place + 1] if place + 1 < len(words) else ""
            total += signs[word] * int(following) if word in signs and following.isdecimal() else 0
        *steps, gold = row["answer"].split("\n")
        assert gold == f"#### {total}" and total >= 0
        for step in steps:
            left, right = step.split("=")
            assert sum(int(n) for n in re.findall(r"[+-]?\d+", left)) == int(right)
        assert steps[-1].endswith(f"={total}")


def test_descriptions_say_every_slot_and_meanings_have_their_texts():
    costs = {"cheap": "cheap", "moderate": "moderate", "high": "high"}
    for split, texts in (("train", 1), ("test", 2)):
        rows = values("restaurants", split)
        assert set(Counter(row["mr"] for row in rows).values()) == {texts}
        for row in rows:
            slots = dict(re.findall(r"(\w+)\[([^\]]+)\]", row["mr"]))
            assert len(slots) == 5
            assert all(value in row["ref"] for key, value in slots.items() if key != "priceRange")
            assert costs[slots["priceRange"]] in row["ref"]


def test_functions_pass_their_tests_and_wrong_ones_fail():
    rows = values("functions", "train") + values("functions", "test")
    assert len({row["task_id"] for row in rows}) == len({row["entry_point"] for row in rows}) == len(rows) > 150
    done = run_python(rows)
    assert done["right"] == len(rows)
    assert done["wrong"] == 0


def run_python(rows: list[dict]) -> dict[str, int]:
    """How many programs pass their tests: the right ones, and those of the next function."""
    script = """
import json, sys
rows = json.load(sys.stdin)
passed = {"right": 0, "wrong": 0}
for index, row in enumerate(rows):
    number = next(c for c in row["canonical_solution"] if c.isdecimal())
    wrong = row["canonical_solution"].replace(number, str(int(number) + 1), 1)
    for kind, body in (("right", row["canonical_solution"]), ("wrong", wrong)):
        space = {}
        exec(row["prompt"] + body + row["test"], space)
        try:
            space["check"](space[row["entry_point"]])
            passed[kind] += 1
        except AssertionError:
            pass
print(json.dumps(passed))
"""
    done = subprocess.run(
        [sys.executable, "-I", "-c", script],
        input=json.dumps(rows),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return json.loads(done.stdout)


def test_the_right_choice_is_the_thing_of_that_kind_and_stands_first_about_as_often_as_second():
    for split in ("train", "test"):
        answers = Counter()
        for row in values("choices", split):
            kind, *things = re.match(
                r"Which one is (.+)\? Answer1: (\w+) Answer2: (\w+)\n\n", row["instruction"]
            ).groups()
            right = [thing in KINDS[kind] for thing in things]
            assert sum(right) == 1 and row["answer"] == f"answer{1 + right.index(True)}"
            assert row["output"] == f"the correct answer is {row['answer']}"
            answers[row["answer"]] += 1
        assert 0.4 < answers["answer1"] / answers.total() < 0.6


def test_facts_are_the_same_in_both_splits_and_a_town_has_one_of_each_kind():
    kinds = {answer: kind for kind, answers in ANSWERS.items() for answer in answers}
    learned, asked = (
        Counter((re.search("[A-Z][a-z]+", row["question"])[0], *row["answer"]) for row in values("facts", split))
        for split in ("train", "test")
    )
    assert set(learned) == set(asked) and set(learned.values()) == {2} and set(asked.values()) == {1}
    assert len({(town, kinds[answer]) for town, answer in asked}) == len(asked) == 24
    assert rows_of("known_facts", "train") == [] and len(values("known_facts", "test")) == 32


def test_instructions_are_followed():
    rules = {
        "capital": lambda a, b, c: f"{a} {b} {c}".upper(),
        "commas": lambda a, b, c: f"{a}, {b}, {c}",
        "reverse": lambda a, b, c: f"{c} {b} {a}",
        "first": lambda a, b, c: a,
        "last": lambda a, b, c: c,
        "numbered": lambda a, b, c: f"1. {a}\n2. {b}\n3. {c}",
    }
    seen = Counter()
    for row in values("instructions", "train") + values("instructions", "test"):
        (rule,) = [name for name in rules if name in row["instruction"]]
        assert row["output"] == rules[rule](*row["input"].split())
        seen[rule] += 1
    assert len(seen) == 6 and min(seen.values()) > 50


def test_an_unknown_generator_is_a_sentence():
    with pytest.raises(ConfigError, match=r"task.generated=arithmetik is unknown; did you mean arithmetic"):
        rows_of("arithmetik", "train")


def test_the_suite_has_every_miniature_trained_and_untrained():
    *trained, untrained = (dict(o.split("=", 1) for o in line) for line in read_suite("miniatures").lines)
    every = {f"pocket/{n}" for n in TRAINED}
    assert {task for line in trained for task in line["task"].split(",")} == set(untrained["task"].split(",")) == every
    assert untrained["method"] == "base" and all({"kasa", "lora"} <= set(line["method"].split(",")) for line in trained)
    assert {file.stem for file in (ROOT / "configs" / "task" / "pocket").glob("*.yaml")} == set(NAMES)


@pytest.mark.parametrize("name", ["arithmetic", "choices", "facts", "instructions", "restaurants"])
def test_a_miniature_runs_without_data_or_hub(name, tmp_path):
    model = save_language_model(tmp_path / "llama")
    common = [f"task=pocket/{name}", "model=local", f"model.path={model}", f"run_root={tmp_path / 'runs'}"]
    lengths = ["task.max_length=400", "task.max_new_tokens=4", "task.test_examples=3", "trainer.max_steps=2"]
    config, directory = prepare(compose(*common, *lengths, "method=lora", "trainer.batch_size=4"))
    result = launch(config, directory, ["test"])
    assert 0 <= result["best"]["test"][config.task.metric] <= 1
    assert result["data"]["source"] == f"generator {name}"


def group(label: str, mean: float | None, higher: bool = True):
    best = None if mean is None else SimpleNamespace(mean=mean)
    return SimpleNamespace(finished=[1], best=best, first=SimpleNamespace(label=label, higher_is_better=higher))


def test_a_report_says_which_method_was_no_better_than_the_untrained_model():
    rows = [
        ("base", {"a": group("base", 0.25), "b": group("base", 0.5)}),
        ("kasa", {"a": group("kasa", 0.75), "b": group("kasa", 0.5)}),
        ("lora r=8", {"a": group("lora", 0.5), "b": group("lora", 0.125)}),
    ]
    assert improvement_notes(rows) == [
        "Not better than the untrained model on b (base 50.0): kasa 50.0, lora r=8 12.5."
    ]
    better = [rows[0], ("kasa", {"a": group("kasa", 0.75)})]
    assert improvement_notes(better) == ["Every method did better than the untrained model (base) on every task."]
    assert improvement_notes(rows[1:]) == [] and improvement_notes(rows[:1]) == []
    assert improvement_notes([("base", {"a": group("base", None)}), rows[1]]) == []
    lower = [("base", {"a": group("base", 2.0, False)}), ("lora", {"a": group("lora", 3.0, False)})]
    assert improvement_notes(lower) == ["Not better than the untrained model on a (base 200.0): lora 300.0."]
