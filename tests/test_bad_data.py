"""Malformed files: the message names file, line and field in one sentence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from synthetic import REVIEWS, header, lines, make_task, review_lines, write_files

from kasa_corda.errors import DataError

Change = Callable[[list[str]], list[str] | bytes]


def at(line: int, change: Callable[[str], str]) -> Change:
    """Change one line (from 1)."""
    return lambda rows: [change(row) if i == line else row for i, row in enumerate(rows, 1)]


def field(index: int, value: str) -> Callable[[str], str]:
    """Replace one tab-separated field."""

    def change(row: str) -> str:
        fields = row.split("\t")
        fields[index] = value
        return "\t".join(fields)

    return change


def encoded(encoding: str) -> Change:
    return lambda rows: "\n".join(rows).encode(encoding, errors="replace")


BAD_GLUE: list[tuple[str, str, Change, str]] = [
    ("sst2", "dev.tsv", lambda rows: b"", " is empty"),
    ("sst2", "dev.tsv", lambda rows: b"\n\r\n  \n", " is empty"),
    ("sst2", "dev.tsv", lambda rows: rows[:1], " has no rows with the columns sentence, label"),
    ("sst2", "train.tsv", encoded("utf-16"), ", line 1: byte 0xff is not UTF-8"),
    ("sst2", "train.tsv", encoded("utf-16-le"), ", line 2: "),
    ("sst2", "train.tsv", encoded("latin-1"), ", line 2: byte 0xe9 is not UTF-8"),
    ("sst2", "train.tsv", at(4, lambda row: row + "\0"), ", line 4: a NUL character"),
    ("sst2", "train.tsv", at(5, lambda row: row + "\tmore"), ", line 5: 3 columns, expected 2: sentence, label"),
    ("sst2", "train.tsv", at(5, lambda row: row.split("\t")[0]), ", line 5: 1 column, expected 2: sentence, label"),
    ("sst2", "train.tsv", at(6, lambda row: ""), ", line 6: an empty line, expected 2"),
    ("sst2", "train.tsv", at(6, lambda row: row.replace("text", "te\nxt")), ", line 6: 1 column, expected 2"),
    (
        "sst2",
        "train.tsv",
        lambda rows: [row.replace("\t", ",") for row in rows],
        "line 1: column 'sentence' is missing",
    ),
    ("sst2", "train.tsv", lambda rows: rows[1:], ", line 1: column 'sentence' is missing; found"),
    ("sst2", "train.tsv", at(1, field(1, "Label")), ", line 1: column 'label' is missing; found sentence, Label"),
    ("sst2", "train.tsv", at(7, field(1, "2")), ", line 7, column 'label': '2' is not one of 0, 1"),
    ("sst2", "train.tsv", at(7, field(1, "")), ", line 7, column 'label': '' is not one of 0, 1"),
    ("sst2", "train.tsv", at(7, field(1, "1.0")), ", line 7, column 'label': '1.0' is not one of 0, 1"),
    ("sst2", "train.tsv", at(8, field(0, "  ")), ", line 8, column 'sentence': the text is empty"),
    (
        "cola",
        "train.tsv",
        lambda rows: ["source\tlabel\tstar\tsentence", *rows],
        "line 1, column 'label': 'label' is not",
    ),
    ("cola", "dev.tsv", at(3, field(1, "*")), ", line 3, column 'label': '*' is not one of 0, 1"),
    ("cola", "dev.tsv", at(3, lambda row: row.split("\t")[3]), ", line 3: 1 column, expected 4: source, label, star"),
    ("mrpc", "train.tsv", at(1, field(4, "#2 string")), ", line 1: column '#2 String' is missing"),
    ("mrpc", "train.tsv", at(9, field(4, "")), ", line 9, column '#2 String': the text is empty"),
    ("mrpc", "dev.tsv", at(2, field(0, "yes")), ", line 2, column 'Quality': 'yes' is not one of 0, 1"),
    ("stsb", "train.tsv", at(4, field(9, "high")), ", line 4, column 'score': 'high' is not a number"),
    ("stsb", "train.tsv", at(4, field(9, "5.01")), ", line 4, column 'score': '5.01' is outside 0 to 5"),
    ("stsb", "train.tsv", at(4, field(9, "-0.1")), ", line 4, column 'score': '-0.1' is outside 0 to 5"),
    ("stsb", "train.tsv", at(4, field(9, "nan")), ", line 4, column 'score': 'nan' is outside 0 to 5"),
    ("stsb", "train.tsv", at(4, field(9, "inf")), ", line 4, column 'score': 'inf' is outside 0 to 5"),
    ("stsb", "train.tsv", lambda rows: [row.rpartition("\t")[0] for row in rows], "line 1: column 'score' is missing"),
    (
        "rte",
        "train.tsv",
        at(3, field(3, "neutral")),
        ", line 3, column 'label': 'neutral' is not one of entailment, not_",
    ),
    ("qnli", "dev.tsv", at(3, field(3, "Entailment")), ", line 3, column 'label': 'Entailment' is not one of"),
    ("wnli", "dev.tsv", at(3, field(3, "entailment")), ", line 3, column 'label': 'entailment' is not one of 0, 1"),
    (
        "mnli",
        "dev_matched.tsv",
        at(3, field(15, "-")),
        ", line 3, column 'gold_label': '-' is not one of entailment, neu",
    ),
    ("mnli", "dev_mismatched.tsv", at(5, lambda row: row + "\tx"), ", line 5: 17 columns, expected 16"),
    (
        "qqp",
        "train.tsv",
        lambda rows: [*rows[:9], "x", "y", "z", *rows[9:]],
        ": 3 of 64 lines do not have the columns id",
    ),
    ("qqp", "dev.tsv", at(3, field(5, "maybe")), ", line 3, column 'is_duplicate': 'maybe' is not one of 0, 1"),
    ("qqp", "dev.tsv", lambda rows: [*rows[:2], "1\t2\t3\t \t \t0"], ", line 3, column 'question1': the text is empty"),
]


@pytest.mark.parametrize(("task", "file", "change", "says"), BAD_GLUE)
def test_a_malformed_glue_file_is_named_with_line_and_field(task, file, change, says, tmp_path):
    path = write_files(tmp_path, task) / file
    write(path, change(path.read_text(encoding="utf-8").split("\n")[:-1]))
    refused(f"glue/{task}", tmp_path, path, says)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda rows: b"", " is empty"),
        (at(3, field(1, "good")), ", line 3, column 'rating': 'good' is not a number"),
        (at(3, field(1, "4.5")), ", line 3, column 'rating': '4.5' is outside -4 to 4"),
        (at(3, field(2, " ")), ", line 3, column 'text': the text is empty"),
        (at(3, field(0, "2")), ", line 3, column 'id': '2' is empty or repeated"),
        (at(3, lambda row: row + "\tx"), ", line 3: 4 columns, expected 3: id, rating, text"),
        (lambda rows: ["id\trating\ttext", *rows], ", line 1, column 'rating': 'rating' is not a number"),
        (lambda rows: "\n".join([*rows[:6], "7\t2.0\tcafé"]).encode("latin-1"), ", line 7: byte 0xe9 is not UTF-8"),
    ],
)
def test_a_malformed_review_file_is_named_with_line_and_field(change, says, tmp_path):
    path = tmp_path / REVIEWS
    write(path, change(review_lines()))
    refused("reviews", tmp_path, path, says)


def test_a_folder_in_place_of_a_file_is_named(tmp_path):
    path = write_files(tmp_path, "sst2") / "dev.tsv"
    path.unlink()
    path.mkdir()
    refused("glue/sst2", tmp_path, path, " can't be read")


def test_a_broken_id_file_of_mrpc_is_named(tmp_path):
    folder = write_files(tmp_path, "mrpc")
    (folder / "msr_paraphrase_train.txt").write_text("\n".join(lines("mrpc", "train", 70)), encoding="utf-8")
    (folder / "dev_ids.tsv").write_text("1\t2\t3\n", encoding="utf-8")
    refused("glue/mrpc", tmp_path, folder / "dev_ids.tsv", ", line 1: 3 columns, expected 2: #1 ID, #2 ID")


def test_the_first_line_of_every_layout_is_the_published_one():
    assert header("mnli", "train")[-1] == "gold_label" and len(header("mnli", "validation_matched")) == 16


def write(path: Path, content: list[str] | bytes) -> None:
    path.write_bytes(content if isinstance(content, bytes) else ("\n".join(content) + "\n").encode())


def refused(task: str, data_dir: Path, path: Path, says: str) -> None:
    with pytest.raises(DataError) as error:
        make_task(task).load(data_dir, "held_out")
    message = str(error.value)
    assert message.startswith(str(path)) and says in message and "\n" not in message, message
