"""Commonsense questions: rows, choices, both rules, averages; and the harness's rules of open-domain questions."""

from __future__ import annotations

import json
import os
import re
import string
from pathlib import Path

import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from small_language_model import byte_tokenizer, small_llama, write_jsonl
from synthetic import make_task

from kasa_corda.errors import ConfigError, DataError
from kasa_corda.evaluation import EVALUATORS
from kasa_corda.evaluation._likelihood import Continuation
from kasa_corda.evaluation.answers import first_word, harness_match, token_f1
from kasa_corda.progress import Progress
from kasa_corda.tasks import Example

REAL = Path(os.environ.get("KASA_CORDA_DATA") or ROOT.parent / "shared" / "data")
SIZES = {
    "boolq": (9427, 3270),
    "piqa": (0, 1838),
    "siqa": (0, 1954),
    "hellaswag": (0, 10042),
    "winogrande": (0, 1267),
    "arc_easy": (2251, 2376),
    "arc_challenge": (1119, 1172),
    "openbookqa": (4957, 500),
}
FOLDERS = {"siqa": "social_i_qa", "arc_easy": "ARC-Easy", "arc_challenge": "ARC-Challenge"}
FORMS = {
    "boolq": "Please answer the following question with true or false, question: is {i} even?\n\n"
    "Answer format: true/false",
    "piqa": "Please choose the correct solution to the question: {i}?\n\nSolution1: go {i}\n\nSolution2: stay\n\n"
    "Answer format: solution1/solution2",
    "hellaswag": "Please choose the correct ending to complete the given sentence: {i}\n\nEnding1: a Ending2: b"
    " Ending3: c Ending4: d\n\nAnswer format: ending1/ending2/ending3/ending4",
    "winogrande": "Please choose the correct answer to fill in the blank to complete the given sentence: {i} _.\n\n"
    "Option1: x Option2: y Answer format: option1/option2",
}
SCIENCE = (
    "Please choose the correct answer to the question: what is {i}?\n\nAnswer1: one Answer2: two Answer3: three\n\n"
    "Answer format: answer1/answer2/answer3"
)


def write_commonsense(data_dir: Path, count: int = 20) -> Path:
    """The eight sets in the LLM-Adapters layout; training files where the real folder has them."""
    for name, (train, _) in SIZES.items():
        form = FORMS.get(name, SCIENCE)
        names = form.rpartition(" ")[2].split("/")
        for split in ("train", "test") if train else ("test",):
            rows = [
                {
                    "instruction": form.replace("{i}", f"{split} {i}"),
                    "input": "",
                    "output": f"the correct answer is {names[i % 2]}",
                    "answer": names[i % 2],
                }
                for i in range(count)
            ]
            file = data_dir / "commonsense" / FOLDERS.get(name, name) / f"{split}.json"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(rows), encoding="utf-8")
    return data_dir


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory) -> Path:
    return write_commonsense(tmp_path_factory.mktemp("commonsense"))


@pytest.mark.parametrize("name", SIZES)
def test_every_set_is_read_and_its_own_responses_are_right(name, data_dir):
    task = make_task(f"commonsense/{name}")
    train, test, _ = task._examples(data_dir, bool(SIZES[name][0]))
    assert len(test) == 20 and len(train) == (20 if SIZES[name][0] else 0)
    assert task.grade(test, [[e.target] for e in test]).scores == {"exact_match": 1.0}
    wrong = task.grade(test, [[next(t for t in task.continuations(e) if t != e.target)] for e in test])
    assert wrong.scores == {"exact_match": 0.0} and wrong.errors == {"exact_match": 0.0}
    assert task.prompt_of(test[0]).endswith(f"### Instruction:\n{test[0].text}\n\n### Response:\n")


@pytest.mark.skipif(not (REAL / "commonsense").is_dir(), reason="real data sets are not on this machine")
@pytest.mark.parametrize("name", [name for name in SIZES if name != "hellaswag"])
def test_the_real_files_have_the_published_sizes_and_every_response_gives_its_answer(name):
    task = make_task(f"commonsense/{name}")
    train, test, found = task._examples(REAL, bool(SIZES[name][0]))
    assert (len(train), len(test)) == SIZES[name] and not found.notes
    for example in train + test:
        assert task.extract(example.target) == example.label[0] and example.label[0] in task.choices(example.text)


@pytest.mark.parametrize(
    ("text", "name", "answer"),
    [
        ("the correct answer is answer2", "arc_easy", "answer2"),
        ("answer3, not answer1", "arc_easy", "answer3"),
        ("Answer1: or answer4", "arc_easy", "answer4"),
        ("answer12", "arc_easy", "answer1"),
        ("answer", "arc_easy", None),
        ("It is untrue", "boolq", "true"),
        ("True. No, false", "boolq", "false"),
        ("", "boolq", None),
        ("the correct answer is option2", "winogrande", "option2"),
        ("the correct answer is solution1", "piqa", "solution1"),
        ("ending4", "hellaswag", "ending4"),
    ],
)
def test_the_first_name_of_a_choice_counts_wherever_it_stands(text, name, answer):
    assert make_task(f"commonsense/{name}").extract(text) == answer


def test_choices_are_read_from_the_question():
    task = make_task("commonsense/piqa")
    question = FORMS["piqa"].replace("{i}", "how")
    assert task.choices(question) == {"solution1": "go how", "solution2": "stay"}
    assert task.continuations(Example("0", question)) == [f"the correct answer is solution{i}" for i in (1, 2)]
    assert make_task("commonsense/piqa", compare="text").continuations(Example("0", question)) == ["go how", "stay"]
    assert make_task("commonsense/boolq").choices(FORMS["boolq"]) == {"true": "true", "false": "false"}
    assert list(task.choices("no format at all")) == ["solution1", "solution2"]
    assert task.choices("Answer format: solution1/solution2") == {n: n for n in ("solution1", "solution2")}


def test_the_likeliest_choice_is_chosen_summed_and_per_token():
    task = make_task("commonsense/winogrande", metric="likelihood_accuracy")
    examples = [Example(str(i), FORMS["winogrande"], label=[f"option{i}"]) for i in (1, 2)]
    scored = [
        [Continuation(4.0, 2, False), Continuation(5.0, 5, True)],
        [Continuation(3.0, 3, False), Continuation(3.0, 3, False)],
    ]
    found = task.grade_continuations(examples, scored)
    assert [row["likelihood_prediction"] for row in found.rows] == ["option1", "option1"]
    assert [row["likelihood_prediction_norm"] for row in found.rows] == ["option2", "option1"]
    assert found.scores == {"likelihood_accuracy": 0.5, "likelihood_accuracy_norm": 0.0}
    assert [row["score"] for row in found.rows] == [1.0, 0.0] and found.errors["likelihood_accuracy"] == 0.5


def test_one_evaluation_reports_both_rules_and_agrees_with_plain_likelihoods(data_dir):
    import torch

    torch.manual_seed(0)
    model, tokenizer = small_llama().eval(), byte_tokenizer()
    task = make_task("commonsense/arc_easy", prompt="{question}", max_new_tokens=4, compare="text")
    _, test, _ = task._examples(data_dir, False)
    evaluator = EVALUATORS["generation"](EVALUATORS["generation"].Config("generation", batch_size=4))
    found = evaluator.evaluate(model, tokenizer, task, test[:3], Progress(show=False))
    names = {"exact_match", "likelihood_accuracy", "likelihood_accuracy_norm", "answer_likelihood"}
    assert set(found.scores) == set(found.errors) == names
    for example, row in zip(test[:3], found.rows, strict=True):
        logs = {}
        for name, text in task.choices(example.text).items():
            prompt, whole = (tokenizer(t)["input_ids"] for t in (example.text, example.text + text))
            with torch.no_grad():
                logits = model(torch.tensor([whole])).logits[0].log_softmax(-1)
            logs[name] = sum(float(logits[i - 1, whole[i]]) for i in range(len(prompt), len(whole)))
        assert row["likelihood_prediction"] == max(logs, key=logs.get)
        assert row["score"] == row["exact_match"]


def test_a_training_mixture_is_tested_on_other_sets_and_reports_their_average(data_dir, tmp_path):
    rows = json.loads((data_dir / "commonsense" / "boolq" / "train.json").read_text())
    rows += json.loads((data_dir / "commonsense" / "openbookqa" / "train.json").read_text())
    write_commonsense(tmp_path)
    (tmp_path / "commonsense" / "commonsense_15k.json").write_text(json.dumps(rows), encoding="utf-8")
    task = make_task("commonsense/commonsense_15k")
    data = task.load(tmp_path, "held_out")
    assert len(data.train) + len(data.select) == 40 and list(data.test) == [f"commonsense/{name}" for name in SIZES]
    halves = {name: {"exact_match": i / 8} for i, name in enumerate(data.test)}
    assert task.combine(halves)["average"] == pytest.approx(sum(range(8)) / 64)
    assert task.combine_errors({name: {"exact_match": 0.1} for name in data.test})["average"] == pytest.approx(
        0.1 / 8**0.5
    )
    (row,) = task.encode(data.train[:1], byte_tokenizer())
    assert row["labels"][1:] == row["input_ids"][1:]  # prompt and response are learned, as in the papers


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"words": []}, "task.words must name the choices"),
        ({"response": "it is so"}, "must hold {answer}"),
        ({"metric": "accuracy"}, "task.metric=accuracy is unknown"),
    ],
)
def test_wrong_settings_are_sentences(changes, sentence):
    with pytest.raises(ConfigError) as caught:
        make_task("commonsense/boolq", **changes)
    assert sentence in str(caught.value)


def test_an_answer_that_is_no_choice_is_named_with_its_line(data_dir, tmp_path):
    write_commonsense(tmp_path)
    file = tmp_path / "commonsense" / "boolq" / "test.json"
    file.write_text('[{"instruction": "x", "answer": "maybe"}]', encoding="utf-8")
    with pytest.raises(DataError, match=r"test.json, line 1, 'answer': 'maybe' is not one of true, false"):
        make_task("commonsense/boolq").load(tmp_path, "held_out")
    with pytest.raises(DataError, match=r"no hub data set has this layout. Ways on: give data_dir=FOLDER"):
        make_task("commonsense/boolq").load(tmp_path / "commonsense" / "boolq", "held_out")


def harness_reference(predictions, references, regexes):
    """lm-evaluation-harness 0.4.9's exact_match (api/metrics.py) written out: patterns, case, punctuation."""
    for pattern in regexes:
        predictions, references = ([re.sub(pattern, "", x) for x in xs] for xs in (predictions, references))
    table = str.maketrans("", "", string.punctuation)
    bare = [[x.lower().translate(table) for x in xs] for xs in (predictions, references)]
    return [a == b for a, b in zip(*bare, strict=True)]


PATTERNS = {"nq_open": [r"\ban|a|the\b"], "nq_open_4": [r"\b(?:The |the |An |A |The |a |an )"], "triviaqa": []}
SOUP = st.text(st.sampled_from("aAntheT .,'!-1 \n"), max_size=12)


@given(SOUP, SOUP, st.sampled_from(sorted(PATTERNS)))
@settings(max_examples=200, deadline=None)
def test_harness_match_is_the_harness_own_exact_match(prediction, accepted, rule):
    (expected,) = harness_reference([prediction.lstrip()], [accepted], PATTERNS[rule])
    assert harness_match(prediction, [accepted], rule) is expected


@pytest.mark.parametrize(
    ("prediction", "accepted", "f1"),
    [
        ("The Eiffel Tower", ["Eiffel Tower"], 1.0),
        ("Eiffel", ["Eiffel Tower"], 2 / 3),
        ("in the tower of Eiffel", ["Eiffel Tower", "Paris"], 2 / 3),
        ("paris paris", ["Paris"], 2 / 3),
        ("Rome", ["Paris"], 0.0),
        ("", ["Paris"], 0.0),
    ],
)
def test_f1_counts_shared_words_against_the_best_accepted_answer(prediction, accepted, f1):
    assert token_f1(prediction, accepted) == pytest.approx(f1)


def test_open_questions_report_the_standard_and_the_harness_rule_of_the_same_answers(tmp_path):
    rows = [{"question": "who", "answer": ["the bear"]}, {"question": "what", "answer": ["cat", "kitten"]}]
    write_jsonl(tmp_path / "nq_open" / "NQ-open.dev.jsonl", rows)
    task = make_task("harness/nq_open")
    _, test, _ = task._examples(tmp_path, False)
    found = task.grade(test, [[" The bear"], [" ct"]])
    assert found.scores == {"exact_match": 0.5, "f1": 0.5, "harness_match": 0.5}
    assert [(row["exact_match"], row["harness_match"], row["score"]) for row in found.rows] == [(1, 0, 0), (0, 1, 1)]
    plain = make_task("nq_open")
    assert plain.text_metrics == ("exact_match", "f1") and plain.choice_metrics == ()
    assert make_task("harness/nq_open", harness="nq_open_4").grade(test, [[" The bear"], [" ct"]]).scores[
        "harness_match"
    ] == pytest.approx(0.5)


def test_web_questions_by_the_harness_are_right_when_an_answer_is_the_greedy_continuation():
    import torch

    task = make_task("harness/webqs", prompt="{question}", max_new_tokens=5)
    torch.manual_seed(0)
    model, tokenizer = small_llama().eval(), byte_tokenizer()
    question, tokens = "who?", tokenizer("who?")["input_ids"]
    forced = [*tokens, *tokenizer(" ")["input_ids"]]
    with torch.no_grad():
        first = int(model(torch.tensor([forced])).logits[0, -1].argmax())
        starts_with_space = int(model(torch.tensor([tokens])).logits[0, -1].argmax()) == forced[-1]
    answer = tokenizer.decode([first])
    examples = [Example("0", question, label=[answer, "zzz"], target=f" {answer}")]
    evaluator = EVALUATORS["generation"](EVALUATORS["generation"].Config("generation"))
    found = evaluator.evaluate(model, tokenizer, task, examples, Progress(show=False))
    assert found.scores["harness_match"] == float(starts_with_space)
    greedy = task.grade_continuations(examples, [[Continuation(1.0, 1, False), Continuation(1.0, 1, True)]])
    assert greedy.scores == {"harness_match": 1.0} and greedy.rows[0]["score"] == 1.0
    assert task.continuations(Example("0", "q", label=["Rome, Italy", "Rome", "Ostia"])) == [" Ostia", " Rome"]


def test_trivia_questions_accept_every_alias_of_the_hub_object_or_a_list(tmp_path):
    answer = {"value": "Sinclair Lewis", "aliases": ["Lewis, Sinclair", "Sinclair Lewis"], "type": "WikipediaEntity"}
    rows = [{"question": "Who?", "answer": answer}, {"question": "What?", "answer": ["x", "y"]}]
    write_jsonl(tmp_path / "triviaqa" / "validation.jsonl", rows)
    task = make_task("triviaqa")
    _, test, _ = task._examples(tmp_path, False)
    assert [e.label for e in test] == [["Sinclair Lewis", "Lewis, Sinclair"], ["x", "y"]]
    assert task.prompt_of(test[0]) == "Question: Who??\nAnswer:" and test[0].target == " Sinclair Lewis"
    assert task.grade(test, [[" lewis sinclair"], [" the y"]]).scores == {
        "exact_match": 1.0,
        "f1": 1.0,
        "harness_match": 0.5,
    }
    write_jsonl(tmp_path / "triviaqa" / "validation.jsonl", [{"question": "Who?", "answer": {"aliases": []}}])
    with pytest.raises(DataError, match=r"validation.jsonl, line 1, 'answer': 'value' is missing"):
        task._examples(tmp_path, False)


@given(st.text(max_size=300), st.lists(st.text(max_size=20), max_size=3))
@settings(max_examples=100, deadline=None)
def test_no_text_breaks_a_grader(text, accepted):
    assert 0 <= token_f1(text, accepted) <= 1
    for rule in PATTERNS:
        assert harness_match(text, accepted, rule) in (True, False)
    assert first_word(text, accepted) is None or first_word(text, accepted) in accepted
    task = make_task("commonsense/boolq")
    assert len(task.continuations(Example("0", text))) >= 1
