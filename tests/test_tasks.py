"""The contract every task keeps, on the real files where they are and on small copies of each layout always."""

from __future__ import annotations

import copy
import os
from pathlib import Path

import pytest
from conftest import ROOT, WORDS
from synthetic import GLUE, REVIEWS, make_task, review_lines, write_files

from kasa_corda.errors import ConfigError, DataError
from kasa_corda.tasks import Example, TaskData
from kasa_corda.tasks._splits import carve, draw, fingerprint, text_key

TASK_NAMES = [*(f"glue/{name}" for name in GLUE), "reviews"]
REAL = Path(os.environ.get("KASA_CORDA_DATA") or ROOT.parent / "shared" / "data")


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every task's files, small, in one folder; GLUE's below glue/."""
    folder = tmp_path_factory.mktemp("data")
    for name in GLUE:
        write_files(folder / "glue", name)
    (folder / REVIEWS).write_text("\r\n".join(review_lines()), encoding="utf-8", newline="")
    return folder


@pytest.fixture(scope="session")
def tokenizer():
    """BERT's, with the words of the tests."""
    from transformers import BertTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    return BertTokenizerFast(vocab={word: i for i, word in enumerate(words)})


def decoder_tokenizer():
    """A tokenizer without a separator token, as decoders have."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"?": 0, **{word: i + 1 for i, word in enumerate(WORDS)}}, unk_token="?"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token="?")


def everything(data: TaskData) -> dict[str, list[Example]]:
    return {"train": data.train, "select": data.select, **data.test}


def keeps_the_contract(name: str, folder: Path) -> TaskData:
    """Load twice per selection and check what the rest of the framework relies on. Returns the held-out splits."""
    task = make_task(name)
    held_out, paper = task.load(folder, "held_out"), task.load(folder, "paper")
    for data in (held_out, paper):
        assert data.source and str(folder) in data.source
        for split in everything(data).values():
            assert split and len({e.id for e in split}) == len(split)
            for e in split:
                assert e.text.strip() and (e.text_pair is not None) == (len(task.config.columns) == 2)
                if task.config.kind == "regression":
                    assert isinstance(e.label, float) and 0 <= e.label <= 5
                else:
                    assert e.label in range(task.num_labels)
    train, select = ({text_key(e) for e in split} for split in (held_out.train, held_out.select))
    assert not train & select
    assert held_out.test == paper.test
    assert paper.select == [e for split in paper.test.values() for e in split]
    assert make_task(name).load(folder, "held_out").fingerprint == held_out.fingerprint != paper.fingerprint
    return held_out


@pytest.mark.parametrize("name", TASK_NAMES)
def test_every_task_keeps_the_contract(name, data_dir):
    data = keeps_the_contract(name, data_dir)
    assert any("published are" in note for note in data.notes)
    if name != "reviews":
        assert (len(data.train), len(data.select)) == (54, 6)


@pytest.mark.parametrize("name", TASK_NAMES)
def test_every_task_keeps_the_contract_on_real_data(name):
    folder, task = REAL, make_task(name)
    if name == "reviews":
        folder, needed = real_reviews(), [REVIEWS]
    else:
        needed = [f"glue/{task.config.folder}/{file}" for file in task.config.files.values()]
    if folder is None or not all((folder / file).exists() for file in needed):
        pytest.skip("the original files are not on this machine")
    data = keeps_the_contract(name, folder)
    counts = {f"{split}": len(examples) for split, examples in data.test.items()}
    sizes = task.config.sizes
    assert counts["test"] == sizes["test" if name == "reviews" else "validation"]
    carved = 0 if name == "reviews" else len(data.select)
    assert len(data.train) + carved == sizes["train"]
    assert carved in (0, min(1000, sizes["train"] // 10))
    assert not any("published are" in note for note in data.notes)


def real_reviews() -> Path | None:
    """The folder with the reviews: KASA_CORDA_DATA, or the user's cache if the package was fetched before."""
    from kasa_corda.models.packages import package_folder

    folders = (REAL, REAL / "reviews", package_folder(make_task("reviews").config.package))
    return next((folder for folder in folders if (folder / REVIEWS).exists()), None)


@pytest.mark.parametrize("name", TASK_NAMES)
def test_every_task_encodes_predicts_and_scores(name, data_dir, tokenizer):
    import torch

    task = make_task(name, max_length=16)
    examples = task.load(data_dir, "held_out").train[:12]
    for tokens in (tokenizer, decoder_tokenizer()):
        rows = task.encode(examples, tokens)
        assert len(rows) == 12
        for row, example in zip(rows, examples, strict=True):
            assert {"input_ids", "attention_mask", "labels"} <= set(row)
            assert 0 < len(row["input_ids"]) == len(row["attention_mask"]) <= 16
            assert row["labels"] == example.label and type(row["labels"]) is type(example.label)
    assert task.encode([], tokenizer) == []
    references = [e.label for e in examples]
    if task.config.kind == "regression":
        logits = torch.tensor(references)[:, None]
    else:
        logits = torch.nn.functional.one_hot(torch.tensor(references), task.num_labels).float()
    for outputs in (logits, logits.numpy()):
        predictions = task.predict(outputs)
        assert predictions == pytest.approx(references)
        scores = task.score(predictions, references)
        assert list(scores) == [task.config.metric, *task.config.also]
        assert all(value == pytest.approx(1) for value in scores.values())
    broken = task.score(task.predict(torch.full_like(logits, torch.nan)), references)
    assert all(value == 0 for value in broken.values())
    assert task.combine({"test": {"m": 0.5}, "test_mismatched": {"m": 1.0}}) == {"m": 0.75}


def test_pairs_reach_both_kinds_of_tokenizer(tokenizer):
    task, pair = make_task("glue/rte"), [Example("0", "good film", "bad plot", 0)]
    assert tokenizer.decode(task.encode(pair, tokenizer)[0]["input_ids"]) == "[CLS] good film [SEP] bad plot [SEP]"
    assert decoder_tokenizer().decode(task.encode(pair, decoder_tokenizer())[0]["input_ids"]) == "good film bad plot"
    assert "labels" not in task.encode([Example("0", "good film", "bad plot")], tokenizer)[0]


def test_cut_inputs_are_counted_once_per_example(tokenizer):
    task = make_task("glue/sst2", max_length=6)
    examples = [
        Example("a", "good " * 4, None, 0),
        Example("b", "good " * 5, None, 0),
        Example("c", "bad " * 9, None, 1),
    ]
    assert task.truncated == 0
    for _ in range(2):
        assert [len(row["input_ids"]) for row in task.encode(examples, tokenizer)] == [6, 6, 6]
        assert task.truncated == 2


def test_carving_ignores_order_and_case_and_keeps_duplicates_together():
    train = [Example(str(i), f"Text  {i % 150}" if i % 2 else f"text {i % 150} ") for i in range(300)]
    rest, held = carve(train, 1000)
    assert len(held) == 30 and len(rest) == 270
    assert not {text_key(e) for e in rest} & {text_key(e) for e in held}
    again = carve(train[::-1], 1000)[1]
    assert {e.id for e in again} == {e.id for e in held}
    assert len(carve(train, 8)[1]) == 8
    assert carve(train[:5], 1000) == (train[:5], [])


def test_the_training_draw_is_fixed_nested_and_taken_after_carving(data_dir):
    full = make_task("glue/sst2").load(data_dir, "held_out")
    small = make_task("glue/sst2", train_examples=20).load(data_dir, "held_out")
    assert small.select == full.select and len(small.train) == 20
    assert small.train == [e for e in full.train if e in small.train]
    assert draw(full.train, 10) == draw(small.train, 10)
    assert "trained on 20 of 54 training examples (fixed draw)" in small.notes
    assert draw(full.train, 1000) == full.train


def test_the_fingerprint_sees_every_change():
    splits = {"train": [Example("0", "a", "b", 1)], "test": [Example("0", "c", None, 0)]}
    seen = {fingerprint(splits)}
    for split, field, value in [
        ("train", "label", 0),
        ("train", "text", "x"),
        ("test", "text_pair", ""),
        ("test", "id", "1"),
    ]:
        changed = copy.deepcopy(splits)
        setattr(changed[split][0], field, value)
        seen.add(fingerprint(changed))
    assert len(seen) == 5 and all(len(digest) == 16 for digest in seen)


def test_the_folder_may_be_given_at_any_level(data_dir):
    for folder in (data_dir, data_dir / "glue", data_dir / "glue" / "MRPC"):
        assert "MRPC" in make_task("glue/mrpc").load(folder, "held_out").source


def test_crlf_and_a_byte_order_mark_change_nothing(data_dir, tmp_path):
    for file in ("train.tsv", "dev.tsv"):
        text = (data_dir / "glue" / "MRPC" / file).read_text(encoding="utf-8")
        (tmp_path / "MRPC").mkdir(exist_ok=True)
        (tmp_path / "MRPC" / file).write_text("\ufeff" + text.replace("\n", "\r\n"), encoding="utf-8", newline="")
    ours = [make_task("glue/mrpc").load(folder, "held_out").fingerprint for folder in (data_dir, tmp_path)]
    assert ours[0] == ours[1]


def test_a_short_mrpc_train_file_is_completed(data_dir, tmp_path):
    folder = write_files(tmp_path, "mrpc")
    complete = make_task("glue/mrpc").load(tmp_path, "paper").train
    train, dev = ((folder / f"{name}.tsv").read_text(encoding="utf-8").split("\n")[:-1] for name in ("train", "dev"))
    ids = ["\t".join(line.split("\t")[1:3]) for line in dev[1:]]
    (folder / "msr_paraphrase_train.txt").write_text("\n".join([*train, *dev[1:]]) + "\n", encoding="utf-8")
    (folder / "dev_ids.tsv").write_text("\n".join(ids) + "\n", encoding="utf-8")
    (folder / "train.tsv").write_text("\n".join(train[:7] + train[8:]) + "\n", encoding="utf-8")
    data = make_task("glue/mrpc").load(tmp_path, "paper")
    assert data.train == complete
    assert any("1 training row(s)" in note and "msr_paraphrase_train.txt" in note for note in data.notes)


def test_broken_qqp_rows_are_skipped_and_counted(tmp_path):
    train = write_files(tmp_path, "qqp", train=300) / "train.tsv"
    text = train.read_text(encoding="utf-8").split("\n")
    train.write_text("\n".join([*text[:9], "a\tb", *text[9:]]), encoding="utf-8")
    data = make_task("glue/qqp").load(tmp_path, "paper")
    assert len(data.train) == 300
    assert "train.tsv: 1 rows with a wrong number of columns skipped" in data.notes


def test_reviews_have_a_neutral_band_and_fixed_splits_without_duplicates(data_dir):
    data = make_task("reviews").load(data_dir, "held_out")
    splits = everything(data)
    keys = [text_key(e) for split in splits.values() for e in split]
    assert len(set(keys)) == len(keys)
    rating = {line.split("\t")[0]: float(line.split("\t")[1]) for line in review_lines()}
    assert all(abs(rating[e.id]) >= 0.5 and e.label == (rating[e.id] > 0) for split in splits.values() for e in split)
    wide = everything(make_task("reviews", neutral_band=2.0).load(data_dir, "held_out"))
    assert all({e.id for e in wide[name]} <= {e.id for e in splits[name]} for name in splits)
    assert data.notes[0].startswith("45 of 400 sentences dropped as neutral")


def test_reviews_come_from_the_package_without_a_local_copy(tmp_path, monkeypatch):
    from kasa_corda.models import packages

    monkeypatch.setattr(packages, "ensure_package", lambda key: tmp_path)
    with pytest.raises(DataError, match=f"has no {REVIEWS}"):
        make_task("reviews").load(None, "held_out")
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / REVIEWS).write_text("\n".join(review_lines()), encoding="utf-8")
    assert make_task("reviews").load(tmp_path, "paper").source == "package vaderSentiment"

    def unreachable(key: str) -> Path:
        raise DataError("no index answers")

    monkeypatch.setattr(packages, "ensure_package", unreachable)
    with pytest.raises(DataError, match=f"no index answers; or give data_dir=FOLDER .* with {REVIEWS}"):
        make_task("reviews").load(None, "held_out")


@pytest.mark.parametrize(
    ("name", "changes", "says"),
    [
        ("glue/sst2", {"metric": "acuracy"}, "task.metric=acuracy is unknown; did you mean accuracy"),
        ("glue/sst2", {"metric": "pearson"}, "task.metric=pearson can't score task=glue/sst2"),
        ("glue/mnli", {"also": ["f1"]}, "task.also=f1 can't score task=glue/mnli"),
        ("glue/sst2", {"kind": "generation"}, "task.kind=generation does not fit task.family=glue"),
        ("glue/sst2", {"labels": ["a"]}, "task.labels=.* at least two different"),
        ("glue/sst2", {"labels": ["a", "a"]}, "task.labels=.* at least two different"),
        ("glue/stsb", {"labels": ["a", "b"]}, "task.labels=.* must be empty"),
        ("glue/sst2", {"columns": []}, "task.columns=.* one text field, or two"),
        ("glue/rte", {"file_columns": ["a"]}, "task.file_columns=.* as many as task.columns"),
        ("glue/rte", {"file_labels": ["a"]}, "task.file_labels=.* as many as task.labels"),
        ("glue/rte", {"files": {"test_b": "b.tsv"}}, "task.splits names train, test, but task.files names"),
        ("glue/rte", {"sizes": {"train": 0}}, "task.sizes.train=0 must be at least 1"),
        ("reviews", {"package": "vader"}, "task.package=vader is unknown; did you mean vaderSentiment"),
        ("reviews", {"labels": ["a", "b", "c"]}, "two labels"),
    ],
)
def test_contradictions_are_found_before_data_is_touched(name, changes, says):
    with pytest.raises(ConfigError, match=says) as error:
        make_task(name, **changes)
    assert "\n" not in str(error.value)


def test_importing_the_tasks_stays_cheap():
    import subprocess
    import sys

    code = (
        "import sys; from kasa_corda.tasks import TASKS;"
        "assert {'glue', 'gsm8k', 'open_qa', 'reviews'} <= set(TASKS.names()), TASKS.names();"
        "assert not {'torch', 'transformers', 'datasets', 'sklearn', 'scipy'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
