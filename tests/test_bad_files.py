"""Damaged question files: one sentence that names file, line and field, exit code 2, never a traceback."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT
from fuzz.damage import Damage, dangling, folder, loop
from small_language_model import write_gsm8k, write_jsonl, write_open_qa
from synthetic import make_task

from kasa_corda.errors import DataError
from kasa_corda.tasks._files import LONGEST, brief, read_file

GOOD = '{"question": "q", "answer": "1+1=2\\n#### 2"}'


def line(number: int, new: str) -> Damage:
    """Replace one line (from 1)."""

    def damage(path: Path) -> None:
        lines = path.read_text(encoding="utf-8").split("\n")
        lines[number - 1] = new
        path.write_text("\n".join(lines), encoding="utf-8", newline="")

    return damage


def columns(number: int, *, drop: str | None = None, also: int | None = None, **changes) -> Damage:
    """Change columns of the object in one line (and in line ``also``), and leave one out."""

    def damage(path: Path) -> None:
        lines = path.read_text(encoding="utf-8").split("\n")
        for index in {number, also or number}:
            values = {**json.loads(lines[index - 1]), **changes}
            values.pop(drop, None)
            lines[index - 1] = json.dumps(values)
        path.write_text("\n".join(lines), encoding="utf-8", newline="")

    return damage


def content(data: bytes | str) -> Damage:
    return lambda path: path.write_bytes(data.encode() if isinstance(data, str) else data)


def recoded(encoding: str, extra: str = "") -> Damage:
    return lambda path: path.write_bytes((path.read_text(encoding="utf-8") + extra).encode(encoding))


def inserted(at: int, data: bytes) -> Damage:
    def damage(path: Path) -> None:
        old = path.read_bytes()
        path.write_bytes(old[:at] + data + old[at:])

    return damage


def as_list(path: Path) -> None:
    objects = [json.loads(row) for row in path.read_text(encoding="utf-8").splitlines()]
    path.write_text(json.dumps(objects), encoding="utf-8")


def nested(path: Path) -> None:
    path.write_text("[" * 100_000 + "\n", encoding="utf-8")


LONG = "x" * 10_000_000

GSM8K: dict[str, tuple[Damage, str]] = {
    "nothing": (content(b""), " is empty and has no rows"),
    "white space": (content(b" \n\r\n\t\n"), " is empty and has no rows"),
    "mark alone": (content(b"\xef\xbb\xbf"), " is empty and has no rows"),
    "open object": (line(3, GOOD[:-1]), ", line 3: not JSON (Expecting ',' delimiter, column 44"),
    "open text": (line(3, '{"question": "q'), ", line 3: not JSON (Unterminated string"),
    "single quotes": (line(3, "{'question': 'q', 'answer': '#### 1'}"), ", line 3: not JSON (Expecting property name"),
    "trailing comma": (line(4, GOOD[:-1] + ",}"), ", line 4: not JSON ("),
    "two objects in a line": (line(2, GOOD + GOOD), ", line 2: not JSON ('{\"question\": "),
    "a comma behind every object": (line(2, GOOD + ","), ", line 2: not JSON (',' behind the object)"),
    "a text": (line(5, '"question"'), ", line 5: '\"question\"' is not a JSON object"),
    "a list": (line(5, f"[{GOOD}]"), ", line 5: '[{\"question\""),
    "null": (line(5, "null"), ", line 5: 'null' is not a JSON object"),
    "plain text": (content("Question: one?\nAnswer: 1\n"), ", line 1: not JSON (Expecting value, column 1)"),
    "a list of all": (as_list, ", line 1: '[{\"question\""),
    "nested too deeply": (nested, ", line 1: not JSON (maximum recursion depth"),
    "a name twice": (line(6, '{"question": "q", "question": "r", "answer": ""}'), ", line 6: not JSON ('question' "),
    "a number of 5,000 digits": (line(6, '{"question": %s}' % ("9" * 5000)), ", line 6: not JSON (Exceeds the limit"),
    "half a surrogate pair": (line(6, '{"question": "\\ud83d", "answer": "#### 1"}'), ", line 6: half of a surrogate"),
    "utf-16": (recoded("utf-16"), ", line 1: byte 0xff is not UTF-8; convert the file to UTF-8"),
    "utf-16 without mark": (recoded("utf-16-le"), ", line 1: a NUL character"),
    "latin-1": (recoded("latin-1", '{"question": "caf\u00e9"}'), ", line 41: byte 0xe9 is not UTF-8"),
    "a NUL": (inserted(3, b"\0"), ", line 1: a NUL character"),
    "cut inside a character": (inserted(0, "\u00e9".encode()[:1]), ", line 1: byte 0xc3 is not UTF-8"),
    "compressed without .gz": (content(gzip.compress(b"x", mtime=0)), "is compressed; name it train.jsonl.gz"),
    "a folder": (folder, " can't be read: Is a directory"),
    "a link to itself": (loop, " can't be read: Too many levels of symbolic links"),
    "a link to nothing": (dangling, " can't be read: No such file"),
    "no answer": (columns(7, drop="answer"), ", line 7: 'answer' is missing; found question"),
    "no question": (columns(7, drop="question"), ", line 7: 'question' is missing; found answer"),
    "an empty object": (line(7, "{}"), ", line 7: 'question' is missing; found nothing"),
    "other case": (line(7, GOOD.replace("question", "Question")), ", line 7: 'question' is missing; found Question"),
    "question null": (columns(8, question=None), ", line 8, 'question': None is not a text"),
    "question NaN": (columns(8, question=float("nan")), ", line 8, 'question': nan is not a text"),
    "question a number": (columns(8, question=12), ", line 8, 'question': 12 is not a text"),
    "question true": (columns(8, question=True), ", line 8, 'question': True is not a text"),
    "question a list": (columns(8, question=["q"]), ", line 8, 'question': ['q'] is not a text"),
    "question empty": (columns(8, question=""), ", line 8, 'question': '' is not a text, or an empty one"),
    "question white": (columns(8, question=" \n\u00a0"), ", line 8, 'question': "),
    "answer an object": (columns(8, answer={"text": "#### 1"}), ", line 8, 'answer': {'text': '#### 1'} is not a text"),
    "answer a number": (columns(8, answer=4), ", line 8, 'answer': 4 is not a text"),
    "no number": (columns(9, answer="2 and 2 is 4"), ", line 9: the solution does not end in '####' and a number"),
    "words for the number": (columns(9, answer="#### four"), ", line 9: the solution does not end in '####'"),
    "nothing behind the mark": (columns(9, answer="4 ####"), ", line 9: the solution does not end in '####' and"),
    "an id twice": (columns(9, id="a", also=2), ", line 9, 'id': 'a' also stands in line 2"),
    "10 MB question": (columns(9, question=LONG), ", line 9, 'question': a text of 10,000,000 characters, above"),
    "10 MB that is no JSON": (line(9, LONG), ", line 9: not JSON (Expecting value, column 1)"),
    "10 MB in one list": (columns(9, question=[LONG]), ", line 9, 'question': ['xxx"),
}  # fmt: skip

NQ: dict[str, tuple[Damage, str]] = {
    "no accepted answer": (columns(3, answer=[]), ", line 3, 'answer': [] is not a list of texts"),
    "answer a text": (columns(3, answer="Person"), ", line 3, 'answer': 'Person' is not a list of texts"),
    "answer null": (columns(3, answer=None), ", line 3, 'answer': None is not a list of texts"),
    "answers are numbers": (columns(3, answer=["a", 7]), ", line 3, 'answer': 7 in the list is not a text"),
    "an empty answer": (columns(3, answer=["a", " "]), ", line 3, 'answer': ' ' in the list is not a text"),
    "a nested answer": (columns(3, answer=[["a"]]), ", line 3, 'answer': ['a'] in the list is not a text"),
    "10 MB answer": (columns(3, answer=["a", LONG]), ", line 3, 'answer': a text of 10,000,000 characters"),
    "other column": (columns(3, drop="answer", answers=["a"]), ", line 3: 'answer' is missing; found question, ans"),
    "a task id twice": (columns(2, task_id=7, also=1), ", line 2, 'task_id': 7 also stands in line 1"),
}  # fmt: skip


@pytest.mark.parametrize("case", GSM8K)
def test_a_damaged_file_of_word_problems_is_named(case, tmp_path):
    damage, says = GSM8K[case]
    path = write_gsm8k(tmp_path) / "gsm8k" / "train.jsonl"
    damage(path)
    refused("gsm8k", tmp_path, path, says)


@pytest.mark.parametrize("case", NQ)
def test_a_damaged_file_of_questions_is_named(case, tmp_path):
    damage, says = NQ[case]
    path = write_open_qa(tmp_path) / "nq_open" / "NQ-open.dev.jsonl"
    damage(path)
    refused("nq_open", tmp_path, path, says)


CSV: dict[str, tuple[str, str]] = {
    "header alone": ("mr,ref\n", " has no rows"),
    "header twice": ("mr,ref,mr\na,b,c\n", ", line 1: the header names 'mr' twice"),
    "nameless column": ("mr,,ref\na,b,c\n", ", line 1: column 2 of the header has no name"),
    "a column too few": ("mr,ref\na,b\nc\n", ", line 3: 1 columns, not 2 as in the header"),
    "a column too many": ("mr,ref\na,b\n\nc,d,e\n", ", line 4: 3 columns, not 2 as in the header"),
    "open quote": ('mr,ref\na,b\n"c,d\ne,f\n', ", line 3: a quote is not closed"),
    "text behind a quote": ('mr,ref\na,b\nc,"d"e\n', ", line 3: not comma-separated values ("),
    "open quote that a later one closes": ('mr,ref\n"a,b\nc,"d"\n', ", line 2: not comma-separated values ("),
    "a very long field": ("mr,ref\na,b\nc," + "x" * 200_000 + "\n", ", line 3: not comma-separated values (field"),
}  # fmt: skip

JSON: dict[str, tuple[str, str]] = {
    "an object": ('{"question": "q"}\n', ", line 1: not a list of objects; a file with one object per line must"),
    "a text": ("\n\ntext", ", line 3: not a list of objects"),
    "empty list": ("[]", " has no rows"),
    "a number": ('[\n{"q": 1},\n\n2]', ", line 4: '2' is not a JSON object"),
    "a list inside": ('[\n{"q": 1},\n[{"q": 1}]]', ", line 3: '[{\"q\": 1}]' is not a JSON object"),
    "no comma": ('[\n{"q": 1}\n{"q": 1}]', ", line 3: not JSON (expected ',' or ']', found '{\"q\": 1}]')"),
    "not closed": ('[\n{"q": 1},\n{"q": 1}\n', ", line 4: not JSON (expected ',' or ']', found the end of the file)"),
    "a comma too many": ('[\n{"q": 1},\n]', ", line 3: not JSON (a comma in front of ']')"),
    "object not closed": ('[\n{"q": 1},\n{"q":\n\n 1', ", line 3: not JSON (Expecting ',' delimiter, 2 lines on)"),
    "text behind": ('[{"q": 1}]\n[{"q": 1}]', ", line 2: not JSON ('[{\"q\": 1}]' behind the list)"),
    "same id": ('[{"id": 1},\n{"id": 1}]', ", line 2, 'id': 1 also stands in line 1"),
}  # fmt: skip


@pytest.mark.parametrize(("suffix", "case"), [(".csv", c) for c in CSV] + [(".json", c) for c in JSON])
def test_damaged_tables_and_lists_are_named_with_their_line(suffix, case, tmp_path):
    text, says = {".csv": CSV, ".json": JSON}[suffix][case]
    path = tmp_path / f"data{suffix}"
    path.write_text(text, encoding="utf-8", newline="")
    told(lambda: read_file(path), path, says)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (gzip.compress(GOOD.encode() * 50, mtime=0)[:-12], "can't be unpacked: Compressed file ended"),
        (GOOD.encode(), "can't be unpacked: Not a gzipped file"),
        (gzip.compress(GOOD.encode() * 50, mtime=0)[:20] + b"\xff" * 60, "can't be unpacked: "),
        (b"", " is empty"),
        (gzip.compress(b"", mtime=0), " is empty and has no rows"),
        (gzip.compress(b"\xff\xfe", mtime=0), ", line 1: byte 0xff is not UTF-8"),
        (gzip.compress(GOOD.encode() + b"\n{", mtime=0), ", line 2: not JSON ("),
    ],
)
def test_damaged_compressed_files_are_named(data, says, tmp_path):
    path = tmp_path / "HumanEval.jsonl.gz"
    path.write_bytes(data)
    told(lambda: read_file(path), path, says)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_named(tmp_path):
    path = write_gsm8k(tmp_path) / "gsm8k" / "train.jsonl"
    path.chmod(0)
    refused("gsm8k", tmp_path, path, " can't be read: Permission denied")


def commonsense_row(i: int, **changes) -> dict:
    question = f"Question {i}?\n\nAnswer1: a Answer2: b\n\nAnswer format: answer1/answer2"
    return {"instruction": question, "input": "", "output": "x", "answer": "answer1", **changes}


def write_family(task: str, root: Path) -> Path:
    """A small data set in the published layout; returns the file that is damaged."""
    if task == "e2e":
        rows = "".join(f'"name[Inn {i}], area[riverside]","Inn {i} is there."\n' for i in range(30))
        for name in ("trainset.csv", "testset_w_refs.csv"):
            path = root / "e2e" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"mr,ref\n{rows}", encoding="utf-8")
        return path.with_name("trainset.csv")
    if task == "mbpp":
        numbers = [*range(11, 31), *range(601, 631)]
        rows = [
            {"task_id": i, "text": f"Give {i}.", "code": f"def f():\n  return {i}", "test_list": [f"assert f() == {i}"]}
            for i in numbers
        ]
        write_jsonl(root / "mbpp" / "mbpp.jsonl", rows)
        return root / "mbpp" / "mbpp.jsonl"
    for name in ("train.json", "test.json"):
        path = root / "commonsense" / "ARC-Easy" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps([commonsense_row(i) for i in range(30)], indent=1), encoding="utf-8")
    return path.with_name("train.json")


def item(number: int, **changes) -> Damage:
    """Change one object of a JSON list; its first line is 6 * number - 4."""

    def damage(path: Path) -> None:
        found = json.loads(path.read_text(encoding="utf-8"))
        found[number - 1] = {k: v for k, v in {**found[number - 1], **changes}.items() if v != "drop"}
        path.write_text(json.dumps(found, indent=1), encoding="utf-8")

    return damage


FAMILIES: dict[tuple[str, str], tuple[Damage, str]] = {
    ("commonsense/arc_easy", "no answer"): (item(3, answer="drop"), ", line 14: 'answer' is missing; found"),
    ("commonsense/arc_easy", "label outside the set"): (item(3, answer="answer9"), ", line 14, 'answer': 'answer9' is"),
    ("commonsense/arc_easy", "label a number"): (item(3, answer=1), ", line 14, 'answer': 1 is not a text"),
    ("commonsense/arc_easy", "label null"): (item(3, answer=None), ", line 14, 'answer': None is not a text"),
    ("commonsense/arc_easy", "no instruction"): (item(2, instruction="drop"), ", line 8: 'instruction' is missing"),
    ("commonsense/arc_easy", "empty instruction"): (item(2, instruction=" "), ", line 8, 'instruction': ' ' is"),
    ("commonsense/arc_easy", "JSON lines"): (content('{"instruction": "q"}\n'), ", line 1: not a list of objects"),
    ("commonsense/arc_easy", "cut off"): (lambda p: p.write_bytes(p.read_bytes()[:-9]), ", line 176: not JSON ("),
    ("e2e", "no reference column"): (line(1, "mr,text"), ", line 2: 'ref' is missing; found mr, text"),
    ("e2e", "semicolons"): (content("mr;ref\na[b];c\n"), "line 2: 'ref' is missing; found mr;ref"),
    ("e2e", "no header"): (content('name[a],"A."\nname[b],"B."\n'), ", line 2: 'ref' is missing"),
    ("e2e", "empty reference"): (line(4, '"name[a]",""'), ", line 4, 'ref': '' is not a text"),
    ("e2e", "empty meaning"): (line(4, '"","Text."'), ", line 4, 'mr': '' is not a text"),
    ("e2e", "comma without quotes"): (line(4, "name[a], area[b],Text."), ", line 4: 3 columns, not 2 as in the header"),
    ("e2e", "open quote"): (line(4, '"name[a],Text.'), ", line 4: not comma-separated values"),
    ("mbpp", "no code"): (columns(2, drop="code"), ", line 2: 'canonical_solution' is missing; found task_id, text"),
    ("mbpp", "no tests"): (columns(2, test_list=[]), ", line 2, 'test_list': [] is not a list of texts"),
    ("mbpp", "tests a text"): (columns(2, test_list="assert 1"), ", line 2, 'test_list': 'assert 1' is not a list"),
    ("mbpp", "tests no Python"): (columns(2, test_list=["assert ("]), ", line 2: tests or solution are not Python"),
    ("mbpp", "no description"): (columns(2, text=None), ", line 2, 'text': None is not a text"),
    ("mbpp", "the same task twice"): (columns(2, task_id=11), ", line 2, 'task_id': 11 also stands in line 1"),
}  # fmt: skip


@pytest.mark.parametrize(("task", "case"), FAMILIES)
def test_a_damaged_file_of_every_family_is_named(task, case, tmp_path):
    damage, says = FAMILIES[task, case]
    path = write_family(task, tmp_path)
    make_task(task).load(tmp_path, "held_out")
    damage(path)
    refused(task, tmp_path, path, says)


def test_there_are_more_than_sixty_damaged_files():
    assert len(GSM8K) + len(NQ) + len(CSV) + len(JSON) + len(FAMILIES) + 7 > 100


@pytest.mark.parametrize(
    ("mark", "ends"), [(b"", b"\n"), (b"\xef\xbb\xbf", b"\n"), (b"", b"\r\n"), (b"\xef\xbb\xbf", b"\r\n\r\n")]
)
def test_a_byte_order_mark_and_windows_line_ends_change_no_example(mark, ends, tmp_path):
    plain, other = (write_gsm8k(tmp_path / name) for name in ("plain", "other"))
    path = other / "gsm8k" / "train.jsonl"
    path.write_bytes(mark + path.read_bytes().replace(b"\n", ends).rstrip(b"\r\n"))
    loaded = [make_task("gsm8k").load(root, "held_out") for root in (plain, other)]
    assert loaded[0].fingerprint == loaded[1].fingerprint


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".json.gz"])
def test_every_format_gives_the_same_rows(suffix, tmp_path):
    rows = [{"mr": f"name[{i}], area[\u00e9]", "ref": 'says "x", and\r\nmore'} for i in range(3)]
    csv = "mr,ref\r\n" + "".join('"{mr}","{0}"\r\n'.format(r["ref"].replace('"', '""'), **r) for r in rows)
    texts = {".jsonl": "\r\n".join(map(json.dumps, rows)), ".json": json.dumps(rows, indent=2), ".csv": csv}
    data = texts[suffix.removesuffix(".gz")].encode("utf-8-sig")
    path = tmp_path / f"data{suffix}"
    path.write_bytes(gzip.compress(data, mtime=0) if suffix.endswith(".gz") else data)
    read = read_file(path)
    assert [row.values for row in read] == rows
    lines = {".jsonl": [1, 2, 3], ".json": [2, 6, 10], ".csv": [2, 4, 6]}[suffix.removesuffix(".gz")]
    assert [row.where for row in read] == [f"{path}, line {n}" for n in lines]


def test_a_text_of_the_largest_size_is_read_and_messages_stay_short(tmp_path):
    write_jsonl(tmp_path / "a.jsonl", [{"question": "x" * LONGEST}])
    assert len(read_file(tmp_path / "a.jsonl")[0].text("question")) == LONGEST
    assert all(len(brief(value)) < 70 for value in (LONG, [LONG], {"a": LONG}, 10**4000))


@pytest.mark.parametrize("case", ["open object", "answer a number", "utf-16"])
def test_the_command_line_tells_it_in_one_line(case, tmp_path):
    damage, says = GSM8K[case]
    path = write_gsm8k(tmp_path / "data") / "gsm8k" / "train.jsonl"
    damage(path)
    wanted = ["task=gsm8k", "model=smollm2_135m", "method=lora", f"data_dir={tmp_path / 'data'}"]
    done = subprocess.run(
        [sys.executable, str(ROOT / "run.py"), *wanted, f"run_root={tmp_path}"],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr + done.stdout
    (told_line,) = [text for text in done.stderr.splitlines() if "error: " in text]
    assert str(path) in told_line and says in told_line


def refused(task: str, data_dir: Path, path: Path, says: str) -> None:
    told(lambda: make_task(task).load(data_dir, "held_out"), path, says)


def told(load: Callable[[], object], path: Path, says: str) -> None:
    with pytest.raises(DataError) as error:
        load()
    message = str(error.value)
    assert message.startswith(str(path)) and says in message, message
    assert "\n" not in message and len(message) < 300 + len(str(path)), message
    assert error.value.exit_code == 2
