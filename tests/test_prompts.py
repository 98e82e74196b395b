"""Start and end tokens once, answers whole, long prompts shortened and counted, few-shot examples clean."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import compose
from hypothesis import given, settings
from hypothesis import strategies as st
from prompt_tokenizers import CHATML, FAMILIES, INST, STARTS, gemma, gpt2, llama2, llama3, qwen
from small_language_model import byte_tokenizer, sum_problem, write_gsm8k, write_jsonl, write_open_qa
from synthetic import make_task

from kasa_corda.batches import IGNORED, Collator
from kasa_corda.errors import ConfigError, DataError
from kasa_corda.launch import prepare
from kasa_corda.tasks import Example
from kasa_corda.tasks._tokens import joined, shortened, surroundings, tokenised

EXAMPLES = [Example(str(i), f"How much is {i} + 1?", label=[str(i + 1)], target=f"It is {i + 1}") for i in range(3)]
PROMPT = "Q: {question}\nA: "


@pytest.fixture(params=FAMILIES)
def family(request) -> str:
    return request.param


def counted(tokenizer, ids: list[int]) -> tuple[int, int]:
    """How often start and end token stand in a row (a token that is both counts as end)."""
    start, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    return (0 if start == end else ids.count(start)), ids.count(end)


def test_training_rows_have_one_start_where_the_family_has_it_and_one_end(family):
    tokenizer = FAMILIES[family]()
    task = make_task("gsm8k", prompt=PROMPT)
    for example, row in zip(EXAMPLES, task.encode(EXAMPLES, tokenizer), strict=True):
        ids, labels = row["input_ids"], row["labels"]
        assert counted(tokenizer, ids) == (int(family in STARTS), 1)
        assert ids[-1] == tokenizer.eos_token_id == labels[-1]
        assert (ids[0] == tokenizer.bos_token_id) == (family in STARTS)
        learned = [label for label in labels if label != IGNORED]
        assert tokenizer.decode(learned[:-1]).strip() == example.target
        assert len(learned) < len(ids) and set(row["attention_mask"]) == {1}


def test_prompts_have_one_start_no_end_and_are_what_training_rows_begin_with(family):
    tokenizer = FAMILIES[family]()
    task = make_task("gsm8k", prompt=PROMPT)
    rows = task.encode(EXAMPLES, tokenizer)
    for prompt, row in zip(task.prompts(EXAMPLES, tokenizer), rows, strict=True):
        assert counted(tokenizer, prompt) == (int(family in STARTS), 0)
        assert row["input_ids"][: len(prompt)] == prompt
        assert row["labels"][: len(prompt)] == [IGNORED] * len(prompt)


def test_reference_rows_and_continuations_have_one_start_and_score_no_end(family):
    tokenizer = FAMILIES[family]()
    task = make_task("gsm8k", prompt=PROMPT)
    rows = task.continued(EXAMPLES[:1], [["yes", "no"]], tokenizer)
    for row in [*task.reference_rows(EXAMPLES, tokenizer), *rows]:
        assert counted(tokenizer, row["input_ids"])[0] == int(family in STARTS)
        assert tokenizer.eos_token_id not in row["labels"]
    assert [tokenizer.decode([t for t in row["labels"] if t != IGNORED]) for row in rows] == ["yes", "no"]


@pytest.mark.parametrize("template", [INST, CHATML])
def test_a_chat_template_and_the_tokenizer_together_give_one_start(family, template):
    tokenizer = FAMILIES[family](template)
    task = make_task("gsm8k", chat="{question} Go.")
    (ids,) = task.prompts(EXAMPLES[:1], tokenizer)
    starts = family in STARTS or (family == "gpt2" and template == INST)
    assert (ids[0] == tokenizer.bos_token_id and ids[1] != tokenizer.bos_token_id) == starts
    assert counted(tokenizer, ids)[0] == int(family in STARTS)
    assert "How much is 0 + 1? Go." in tokenizer.decode(ids)
    (row,) = task.encode(EXAMPLES[:1], tokenizer)
    assert row["input_ids"][: len(ids)] == ids and row["input_ids"][-1] == tokenizer.eos_token_id
    assert tokenizer.decode(row["labels"][len(ids) : -1]).strip() == "It is 1"


def test_a_start_token_written_in_the_prompt_is_not_doubled(family):
    tokenizer = FAMILIES[family]()
    if tokenizer.bos_token is None:
        return
    task = make_task("gsm8k", prompt=tokenizer.bos_token + PROMPT)
    (ids,) = task.prompts(EXAMPLES[:1], tokenizer)
    assert ids.count(tokenizer.bos_token_id) == 1 and ids[0] == tokenizer.bos_token_id


def test_an_end_token_written_in_prompt_or_response_is_neither_doubled_nor_lost(family):
    tokenizer = FAMILIES[family]()
    end = tokenizer.eos_token
    (row,) = make_task("gsm8k", prompt=PROMPT).encode(
        [Example("0", "q", label=["1"], target=f"It is 1{end}")], tokenizer
    )
    assert counted(tokenizer, row["input_ids"])[1] == 1
    (ids,) = make_task("gsm8k", prompt=PROMPT + end).prompts(EXAMPLES[:1], tokenizer)
    assert ids[-1] == tokenizer.eos_token_id != ids[-2]


def test_the_surroundings_of_a_text_are_what_the_tokenizer_says():
    assert surroundings(gpt2()) == surroundings(qwen()) == ([], [])
    assert surroundings(llama3()) == ([0], []) and surroundings(llama2()) == surroundings(gemma()) == ([0], [])
    assert surroundings(FAMILIES["ending"]()) == ([0], [1])
    assert tokenised(["", "ab"], llama3()) == [[0], [0, *llama3()("ab", add_special_tokens=False)["input_ids"]]]


@pytest.mark.parametrize("name", ["smollm2_135m"])
def test_the_default_prompts_of_earlier_runs_are_read_as_before(name):
    from kasa_corda.models.loading import load_tokenizer
    from kasa_corda.models.sources import locate

    try:
        tokenizer = load_tokenizer(locate(compose(f"model={name}")["model"]).folder)
    except Exception as error:
        pytest.skip(f"no {name} here: {error}")
    task = make_task("gsm8k")
    (ids,) = task.prompts(EXAMPLES[:1], tokenizer)
    assert ids == tokenizer(task.prompt_of(EXAMPLES[0]))["input_ids"]


def test_models_are_trained_with_padding_on_the_right_and_generate_with_padding_on_the_left(tmp_path):
    from kasa_corda.models.loading import load_tokenizer

    tokenizer = byte_tokenizer()
    tokenizer.padding_side = "left"
    tokenizer.save_pretrained(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert loaded.padding_side == "right"
    rows = make_task("gsm8k", prompt="{question}:").encode(
        [Example("a", "q", label=["1"], target="1"), Example("b", "qqqq", label=["1"], target="1")], loaded
    )
    batch = Collator(loaded)(rows)
    assert batch["attention_mask"].tolist() == [[1] * 4 + [0] * 3, [1] * 7]
    assert batch["labels"][0].tolist() == [IGNORED, IGNORED, *loaded("1")["input_ids"], 1, IGNORED, IGNORED, IGNORED]


def test_an_end_token_that_also_pads_is_still_learned():
    tokenizer = llama2()
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    rows = make_task("gsm8k", prompt=PROMPT).encode(
        [EXAMPLES[0], Example("b", "q" * 50, label=["1"], target="1")], tokenizer
    )
    labels = Collator(tokenizer)(rows)["labels"]
    assert (labels == tokenizer.eos_token_id).sum(1).tolist() == [1, 1]


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 30), st.integers(1, 30), st.integers(4, 40), st.sampled_from(["response", "prompt"]))
def test_what_is_cut_is_known(prompt, response, limit, cut):
    whole = [*range(100, 100 + prompt), *range(200, 200 + response)]
    tokens = joined(whole[:prompt], whole, 1, limit, cut)
    assert len(tokens.ids) == min(limit, len(whole) + 1) and tokens.needed == len(whole) + 1
    assert tokens.cut_response == (tokens.ids[tokens.start :] != [*whole[prompt:], 1])
    kept = tokens.ids[: tokens.start]
    if cut == "prompt" and response + 1 < limit:
        assert not tokens.cut_response and tokens.end == len(tokens.ids) - 1
        assert kept[: len(kept) // 2] == whole[: len(kept) // 2]
        assert kept[len(kept) // 2 :] == whole[prompt - (len(kept) - len(kept) // 2) : prompt]
    else:
        assert kept == whole[: min(prompt, limit)]


def test_shortening_keeps_beginning_and_end():
    assert shortened(list(range(10)), 5) == [0, 1, 7, 8, 9]
    assert shortened([1, 2], 5) == [1, 2] and shortened([1, 2, 3], 1) == [3]


def test_training_is_refused_where_too_many_answers_are_cut_and_the_length_needed_is_named():
    tokenizer = byte_tokenizer()
    examples = [Example(str(n), "q", label=["1"], target="x" * n) for n in range(1, 41)]
    with pytest.raises(DataError) as error:
        make_task("gsm8k", prompt="{question}", max_length=38).encode(examples, tokenizer)
    message = str(error.value)
    assert "cuts the responses of 4 of 40 training examples, above task.max_truncated=0.05" in message
    assert "use task.max_length=40 (42 holds every response whole)" in message
    task = make_task("gsm8k", prompt="{question}", max_length=40)
    task.encode(examples, tokenizer)
    assert task.truncated == 2 and task.notes == ["2 responses were cut at task.max_length=40"]
    with pytest.raises(DataError, match="of 2 of 40"):
        make_task("gsm8k", prompt="{question}", max_length=40, max_truncated=0).encode(examples, tokenizer)


def test_a_long_input_gives_way_to_the_answer_where_it_is_asked_to():
    tokenizer = byte_tokenizer()
    example = Example("0", "begin" + "x" * 50 + "end", label=["1"], target="answer")
    with pytest.raises(DataError, match=r"leaves no room for the response .* or task\.cut=prompt"):
        make_task("gsm8k", prompt="{question}:", max_length=20).encode([example], tokenizer)
    task = make_task("gsm8k", prompt="{question}:", max_length=20, cut="prompt")
    (row,) = task.encode([example], tokenizer)
    assert tokenizer.decode(row["input_ids"]) == "beginx" + "xxxend:" + "answer<end>"
    assert tokenizer.decode([t for t in row["labels"] if t != IGNORED]) == "answer<end>"
    assert task.truncated == 1 and task.notes == ["1 prompts were too long; tokens in their middle were left out"]


def test_prompts_that_leave_no_room_to_generate_are_shortened_and_counted():
    tokenizer = byte_tokenizer()
    task = make_task("gsm8k", prompt="{question}", max_length=16, max_new_tokens=10)
    examples = [Example("a", "0123456789" * 3, label=["1"]), Example("b", "short", label=["1"])]
    assert [len(ids) for ids in task.prompts(examples, tokenizer)] == [30, 5] and task.truncated == 0
    task.fit_into(30)
    assert [tokenizer.decode(ids) for ids in task.prompts(examples, tokenizer)] == ["0123456789" * 2, "short"]
    assert task.truncated == 1 and "1 prompts were too long" in task.notes[0]


def test_learning_the_prompt_too_is_told_and_names_the_run():
    assert make_task("gsm8k").notes == []
    assert make_task("gsm8k", loss_on="all").notes == ["the prompt is learned too (task.loss_on=all)"]
    common = ("task=gsm8k", "model=smollm2_135m", "method=lora")
    ids = {prepare(compose(*common, *more))[1].run_id for more in ([], ["task.loss_on=all"], ["task.cut=prompt"])}
    assert len(ids) == 3
    defaults = ["task.cut=response", "task.few_shot=0", "task.max_truncated=0.05"]
    assert prepare(compose(*common, *defaults))[1].run_id == prepare(compose(*common))[1].run_id


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory) -> Path:
    return write_open_qa(write_gsm8k(tmp_path_factory.mktemp("shots")))


def test_worked_examples_come_from_training_data_that_is_neither_held_out_nor_tested(data_dir):
    task = make_task("gsm8k", few_shot=3, prompt=PROMPT)
    data = task.load(data_dir, "held_out")
    shots = [e.text for e in task.shots.examples]
    assert len(set(shots)) == 3 and set(shots) <= {e.text for e in data.train}
    (prompt, *_) = task.test_prompts(data.test["test"], byte_tokenizer())
    parts = prompt.split("\n\n")
    assert [part.split("\nA: ")[0].removeprefix("Q: ") for part in parts] == [*shots, data.test["test"][0].text]
    assert all(part.endswith(e.target) for part, e in zip(parts, task.shots.examples, strict=False))
    assert "evaluated with 3 worked training examples before every prompt" in task.notes
    assert not any("Q: " in text[3:] for text in task.prompt_texts(data.train, byte_tokenizer()))
    task.fit_into(512)
    (reference,) = task.reference_rows(data.test["test"][:1], byte_tokenizer())
    assert byte_tokenizer().decode(reference["input_ids"]).startswith(prompt)


def test_worked_examples_are_the_same_for_every_selection_draw_and_method(data_dir):
    drawn = []
    for selection, changes in (("held_out", {}), ("paper", {}), ("none", {}), ("held_out", {"train_examples": 2})):
        task = make_task("gsm8k", few_shot=3, **changes)
        task.load(data_dir, selection)
        drawn.append([e.text for e in task.shots.examples])
    assert drawn.count(drawn[0]) == 4
    fewer = make_task("gsm8k", few_shot=2)
    fewer.load(data_dir, "held_out")
    assert [e.text for e in fewer.shots.examples] == drawn[0][:2]


def test_worked_examples_that_are_tested_are_counted(tmp_path):
    write_jsonl(tmp_path / "gsm8k" / "train.jsonl", [sum_problem(i) for i in range(20)])
    write_jsonl(tmp_path / "gsm8k" / "test.jsonl", [sum_problem(i) for i in range(20)])
    task = make_task("gsm8k", few_shot=4)
    data = task.load(tmp_path, "held_out")
    assert "4 test questions are also among the worked examples before every prompt" in task.notes
    assert any("18 of 20 test questions are also in the training set" in note for note in data.notes)
    assert data.fingerprint != make_task("gsm8k").load(tmp_path, "held_out").fingerprint


def test_further_tasks_have_worked_examples_of_their_own(data_dir):
    task = make_task("gsm8k", also_evaluate=["nq_open"])
    qa = task.further["nq_open"]
    qa.config.few_shot, qa.shots.count = 2, 2
    data = task.load(data_dir, "held_out")
    tested = {e.text for e in data.test["nq_open"]}
    assert len(qa.shots.examples) == 2 and not tested & {e.text for e in qa.shots.examples}
    assert "nq_open: evaluated with 2 worked training examples before every prompt" in task.notes


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"few_shot": 2, "chat": "{question}"}, "leave out task.chat"),
        ({"few_shot": 2, "files": {"test": "t.jsonl"}, "splits": {"test": "test"}}, "needs training examples"),
    ],
)
def test_impossible_worked_examples_are_sentences(changes, says):
    from omegaconf import OmegaConf
    from synthetic import composed

    from kasa_corda.tasks import TASKS

    family = TASKS["gsm8k"]
    plain = {**composed("gsm8k"), **changes}
    task = family(OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(family.Config), plain)))
    with pytest.raises(ConfigError, match=says):
        task.check()


def test_too_few_worked_examples_are_a_sentence(data_dir):
    with pytest.raises(DataError, match=r"task\.few_shot=500 needs as many different training examples; found 36"):
        make_task("gsm8k", few_shot=500).load(data_dir, "held_out")
    with pytest.raises(DataError, match="which are not loaded"):
        make_task("gsm8k", few_shot=1).prompts(EXAMPLES, byte_tokenizer())


def test_a_trained_run_answers_with_the_worked_examples_it_was_evaluated_with(data_dir, tmp_path):
    from small_language_model import save_language_model

    from kasa_corda.launch import launch
    from kasa_corda.trained import load_run

    model = save_language_model(tmp_path / "llama")
    settings = ["task=gsm8k", "model=local", f"model.path={model}", f"data_dir={data_dir}", "method=lora"]
    settings += [f"run_root={tmp_path / 'runs'}", "trainer.max_steps=1", "task.max_length=128", "task.test_examples=3"]
    settings += ["task.prompt='{question}:'", "task.max_new_tokens=24", "task.few_shot=2"]
    config, directory = prepare(compose(*settings))
    result = launch(config, directory, ["test"])
    assert "evaluated with 2 worked training examples before every prompt" in result["notes"]
    loaded = load_run(directory.path)
    rows = directory.predictions("test")
    questions = {e.id: e.text for e in loaded.task.load(data_dir, "held_out").test["test"]}
    answers = loaded.predict([questions[row["id"]] for row in rows])
    assert [answer["generated"] for answer in answers] == [row["text"] for row in rows]
