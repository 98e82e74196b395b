"""Tasks answered by a language model: data, prompts, what is learned, what counts as right."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import pytest
from conftest import ROOT, compose
from small_language_model import byte_tokenizer, small_llama, write_gsm8k, write_jsonl, write_open_qa
from synthetic import make_task

from kasa_corda.batches import Collator, loss_weight
from kasa_corda.errors import ConfigError, DataError
from kasa_corda.evaluation.answers import after_last, first_number, normalised, paper_number, same_answer
from kasa_corda.launch import prepare
from kasa_corda.tasks import Example
from kasa_corda.tasks._splits import text_key

REAL = Path(os.environ.get("KASA_CORDA_DATA") or ROOT.parent / "shared" / "data")
NAMES = ("gsm8k", "nq_open", "webqs")


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory) -> Path:
    return write_open_qa(write_gsm8k(tmp_path_factory.mktemp("questions")))


@pytest.fixture(scope="module")
def tokenizer():
    return byte_tokenizer()


def keeps_the_contract(name: str, folder: Path) -> None:
    held_out, paper = (make_task(name).load(folder, selection) for selection in ("held_out", "paper"))
    for data in (held_out, paper):
        for split in data.splits().values():
            assert split and len({e.id for e in split}) == len(split)
            assert all(e.text and e.label and e.target for e in split)
    assert not {text_key(e) for e in held_out.train} & {text_key(e) for e in held_out.select}
    assert paper.select == paper.test["test"] == held_out.test["test"]
    assert make_task(name).load(folder, "held_out").fingerprint == held_out.fingerprint != paper.fingerprint


@pytest.mark.parametrize("name", NAMES)
def test_every_task_keeps_the_contract(name, data_dir):
    keeps_the_contract(name, data_dir)


@pytest.mark.skipif(not (REAL / "gsm8k").is_dir(), reason="real data sets are not on this machine")
@pytest.mark.parametrize("name", NAMES)
def test_the_real_files_keep_the_contract_and_have_the_published_sizes(name):
    keeps_the_contract(name, REAL)
    data = make_task(name).load(REAL, "held_out")
    assert not any("published are" in note for note in data.notes)
    if name == "gsm8k":
        assert len(data.train) + len(data.select) == 7473 and len(data.test["test"]) == 1319


def test_a_generation_task_chooses_its_evaluator_and_the_command_line_wins():
    assert compose("task=gsm8k")["evaluator"]["name"] == "generation"
    assert compose("task=reviews")["evaluator"]["name"] == "classification"
    wrong = compose("task=gsm8k", "model=smollm2_135m", "method=lora", "evaluator=classification")
    with pytest.raises(ConfigError, match=r"evaluator=classification scores .*, but task=gsm8k is generation"):
        prepare(wrong)


def test_an_encoder_is_refused_before_anything_is_loaded():
    with pytest.raises(ConfigError, match="choose a decoder"):
        prepare(compose("task=gsm8k", "model=minilm", "method=lora"))


def test_positions_must_hold_prompt_and_answer():
    long = compose("task=gsm8k", "model=smollm2_135m", "method=lora", "task.max_new_tokens=8000")
    with pytest.raises(ConfigError, match=r"together above the 8192 positions"):
        prepare(long)


def test_prompt_and_worked_solution_have_the_published_wording(data_dir):
    task = make_task("gsm8k")
    example = task.load(data_dir, "held_out").train[0]
    assert task.prompt_of(example).endswith(f"### Instruction:\n{example.text}\n\n### Response:")
    assert example.label == ["1001"] and example.target == "1000+1=1001\nThe answer is: 1001"
    qa = make_task("nq_open")
    assert qa.prompt_of(Example("0", "who is it")) == "Answer these questions:\n\nQ: who is it?\nA:"
    assert qa.load(data_dir, "held_out").train[0].target.startswith(" Person ")


@pytest.mark.parametrize(("loss_on", "learned"), [("response", "R is 3<end>"), ("all", ": Q? A:R is 3<end>"[1:])])
def test_the_loss_reads_the_response_or_everything(loss_on, learned, tokenizer):
    task = make_task("gsm8k", prompt="{question} A:", loss_on=loss_on, max_length=40)
    (row,) = task.encode([Example("0", "? Q?", label=["3"], target="R is 3")], tokenizer)
    assert tokenizer.decode(row["input_ids"]) == "? Q? A:R is 3<end>"
    assert tokenizer.decode([label for label in row["labels"] if label != -100]) == learned
    assert all(label in (-100, token) for label, token in zip(row["labels"], row["input_ids"], strict=True))
    assert len(row["attention_mask"]) == len(row["input_ids"])
    assert loss_weight(row) == sum(label != -100 for label in row["labels"])


def test_reference_rows_score_the_answer_without_the_end_token(tokenizer):
    task = make_task("gsm8k", prompt="{question}:", test_suffix=" think.", max_length=40)
    (row,) = task.reference_rows([Example("0", "Q", label=["3"], target="R is 3")], tokenizer)
    assert tokenizer.decode(row["input_ids"]) == "Q: think.R is 3<end>"
    assert tokenizer.decode([label for label in row["labels"] if label != -100]) == "R is 3"


def test_long_examples_are_cut_and_counted_and_a_prompt_that_fills_all_is_refused(tokenizer):
    task = make_task("gsm8k", prompt="{question}", max_length=8, max_truncated=0.5)
    examples = [Example("a", "four", label=["1"], target="1"), Example("b", "four", label=["1"], target="123456")]
    rows = task.encode(examples, tokenizer)
    assert [len(row["input_ids"]) for row in rows] == [6, 8] and task.truncated == 1
    assert rows[1]["input_ids"][-1] != tokenizer.eos_token_id
    with pytest.raises(
        DataError, match=r"example c: task.max_length=8 leaves no room .* use task.max_length=12 or more"
    ):
        task.encode([Example("c", "ten bytes.", label=["1"], target="1")], tokenizer)


def test_padding_changes_no_loss_and_parts_of_a_batch_weigh_as_their_tokens(tokenizer):
    import torch

    task = make_task("gsm8k", prompt="{question}:", max_length=40)
    rows = task.encode([Example(str(n), "q" * n, label=["1"], target="x" * n) for n in (1, 4, 9)], tokenizer)
    collate, model = Collator(tokenizer), small_llama()
    with torch.no_grad():
        whole = model(**collate(rows)).loss
        shares = [loss_weight(row) / sum(map(loss_weight, rows)) for row in rows]
        parts = sum(share * model(**collate([row])).loss for share, row in zip(shares, rows, strict=True))
    assert collate(rows)["labels"].shape == collate(rows)["input_ids"].shape
    torch.testing.assert_close(parts, whole)


def test_a_tokenizer_that_merges_over_the_boundary_still_learns_the_whole_response():
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    merging = Tokenizer(models.BPE({"<end>": 0, "a": 1, ":": 2, "b": 3, ":b": 4}, [(":", "b")]))
    joined = PreTrainedTokenizerFast(tokenizer_object=merging, eos_token="<end>", pad_token="<end>")
    (row,) = make_task("gsm8k", prompt="{question}:").encode([Example("0", "a", label=["1"], target="b")], joined)
    assert row["input_ids"] == [1, 4, 0] and row["labels"] == [-100, 4, 0]


@pytest.mark.parametrize(
    ("text", "exact", "paper"),
    [
        ("18", 18, 18),
        (" $1,234.", 1234, 1234),
        ("1,234,567", 1234567, 1234),
        ("-3 apples", -3, -3),
        ("2.50 dollars", Fraction(5, 2), 2),
        (".5", Fraction(1, 2), 0),
        ("3/4", Fraction(3, 4), 1),
        ("5/0", None, 5),
        ("none", None, None),
        ("10, then 20", 10, 10),
        ("9" * 5000, None, None),
    ],
)
def test_numbers_are_read_exactly_or_as_the_paper_does(text, exact, paper):
    assert (first_number(text), paper_number(text)) == (exact, paper)


def test_the_answer_follows_the_last_marker():
    task = make_task("gsm8k")
    assert task.extract("The answer is: 3. No. The answer is: 4 eggs") == "4"
    assert task.extract("It is 4") is None and after_last("x", "y") is None
    assert task.matches("1450000", ["1450000"]) and not task.matches(None, ["4"]) and not task.matches("4", ["5"])
    long = "The answer is: 1,450,000"
    assert task.matches(task.extract(long), ["1450000"])
    assert not make_task("gsm8k", number="paper").matches(make_task("gsm8k", number="paper").extract(long), ["1450000"])


@pytest.mark.parametrize(
    ("prediction", "accepted", "right"),
    [
        ("the Moon", ["Moon"], True),
        ("THE MOON!", ["moon"], True),
        ("U.S.A.", ["usa"], True),
        ("Moon landing", ["Moon"], False),
        ("cat", ["ct"], False),
        ("A", ["a"], True),
        ("", ["the"], False),
        ("b", ["a", "b"], True),
    ],
)
def test_short_answers_match_without_case_punctuation_and_articles(prediction, accepted, right):
    assert same_answer(prediction, accepted) is right


def test_the_old_harness_rule_drops_every_letter_a():
    assert same_answer("cat", ["ct"], "letters") and normalised("The banana", "letters") == "the bnn"


def test_without_a_training_file_the_published_questions_are_divided(data_dir, tmp_path):
    data = make_task("nq_open").load(data_dir, "held_out")
    train, test = ({e.text for e in split} for split in ([*data.train, *data.select], data.test["test"]))
    assert not train & test and len(train | test) == 60 and 15 < len(test) < 45
    assert any("no training file: NQ-open.dev.jsonl divided by hash" in note for note in data.notes)
    write_open_qa(tmp_path)
    write_jsonl(
        tmp_path / "nq_open" / "NQ-open.train.jsonl", [{"question": f"q{i}", "answer": ["x"]} for i in range(30)]
    )
    data = make_task("nq_open").load(tmp_path, "held_out")
    assert len(data.train) + len(data.select) == 30 and len(data.test["test"]) == 60


def test_a_smaller_test_draw_is_part_of_a_larger_one(data_dir):
    ids = [
        {e.id for e in make_task("gsm8k", test_examples=n).load(data_dir, "held_out").test["test"]} for n in (3, 7, 99)
    ]
    assert ids[0] < ids[1] < ids[2] and [len(i) for i in ids] == [3, 7, 12]


def test_further_tasks_are_evaluated_under_their_own_names(data_dir):
    task = make_task("gsm8k", also_evaluate=["nq_open", "webqs"], test_examples=5)
    data = task.load(data_dir, "held_out")
    assert {name: len(split) for name, split in data.test.items()} == {"test": 5, "nq_open": 5, "webqs": 5}
    assert task.owner(data.test["nq_open"]).config.name == "nq_open" and task.owner(data.test["test"]) is task
    combined = task.combine({"test": {"exact_match": 0.5}, "nq_open": {"exact_match": 0.25}, "webqs": {}})
    assert combined == {"exact_match": 0.5, "nq_open_exact_match": 0.25}
    assert data.fingerprint != make_task("gsm8k", test_examples=5).load(data_dir, "held_out").fingerprint


def test_a_run_keeps_the_settings_of_its_further_tasks_and_is_named_by_them():
    common = ("task=gsm8k", "model=smollm2_135m", "method=lora")
    config, directory = prepare(compose(*common, "task.also_evaluate=[nq_open]"))
    assert config.task.also_evaluate["nq_open"]["prompt"].startswith("Answer these questions")
    assert directory.run_id != prepare(compose(*common))[1].run_id


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ("task.also_evaluate=[nq_opne]", "did you mean nq_open"),
        ("task.also_evaluate=[reviews]", "only generation tasks"),
        ("task.also_evaluate=[gsm8k]", "must be another task"),
        ("task.metric=accuracy", "task.metric=accuracy is unknown"),
        ("task.select_by=accuracy", "task.select_by=accuracy is unknown"),
        ("task.prompt=Answer", "must hold {question}"),
        ("task.marker=Result", "must stand in task.response"),
        ("task.stop=['']", "empty text"),
        ("task.kind=classification", "use generation"),
    ],
)
def test_wrong_requests_are_sentences(wrong, sentence):
    evaluator = ["evaluator=classification"] if "kind" in wrong else []
    with pytest.raises(ConfigError) as caught:
        prepare(compose("task=gsm8k", "model=smollm2_135m", "method=lora", wrong, *evaluator))
    assert sentence in str(caught.value)


@pytest.mark.parametrize("name", NAMES)
def test_missing_data_names_the_ways_on(name, tmp_path):
    with pytest.raises(DataError, match=r"connect to the hub; give data_dir=FOLDER .* task=reviews"):
        make_task(name).load(tmp_path, "held_out")


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("{", "line 1: not JSON"),
        ("[1]", "is not a JSON object"),
        ('{"question": "q"}', "'answer' is missing; found question"),
        ('{"question": " ", "answer": "x #### 1"}', "'question': ' ' is not a text"),
        ('{"question": "q", "answer": "none"}', "does not end in '####' and a number"),
        ("", "has no rows"),
    ],
)
def test_damaged_files_are_named_with_their_line(line, sentence, tmp_path):
    write_gsm8k(tmp_path)
    (tmp_path / "gsm8k" / "train.jsonl").write_text(line + "\n", encoding="utf-8")
    with pytest.raises(DataError) as caught:
        make_task("gsm8k").load(tmp_path, "held_out")
    assert sentence in str(caught.value) and "train.jsonl" in str(caught.value)


def test_the_hub_layout_gives_the_same_examples(tmp_path, data_dir):
    import datasets

    task = make_task("gsm8k")
    local = task.load(data_dir, "paper")
    for split in ("train", "test"):
        table = datasets.Dataset.from_json(
            str(data_dir / "gsm8k" / f"{split}.jsonl"), cache_dir=str(tmp_path / "cache")
        )
        table.to_parquet(tmp_path / "repository" / "main" / f"{split}-00000-of-00001.parquet")
    files = "".join(f"  - split: {split}\n    path: main/{split}-*\n" for split in ("train", "test"))
    card = f"---\nconfigs:\n- config_name: main\n  data_files:\n{files}---\n"
    (tmp_path / "repository" / "README.md").write_text(card, encoding="utf-8")
    hub = make_task("gsm8k", hub_id=str(tmp_path / "repository")).load(None, "paper")
    assert hub.fingerprint == local.fingerprint


def test_calibration_reads_solutions_for_gsm8k_and_questions_alone_for_open_questions(data_dir):
    for name, expected in (("gsm8k", "The answer is: 1001"), ("nq_open", "who is number")):
        task = make_task(name)
        texts = task.calibration_texts(task.load(data_dir, "held_out").train)
        assert expected in texts[0]
    assert not any("Person" in text for text in texts)
    pair = make_task("glue/rte").calibration_texts([Example("0", "first", "second"), Example("1", "alone")])
    assert pair == ["first\nsecond", "alone"]
