"""Answers of mathematics problems: a table of hard cases under both rules, the graders' promises, and the tasks."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

import pytest
from conftest import ROOT, compose
from hypothesis import given, settings
from hypothesis import strategies as st
from small_language_model import write_gsm8k, write_jsonl
from synthetic import make_task

from kasa_corda.errors import ConfigError, DataError
from kasa_corda.evaluation.answers import after_last, paper_number
from kasa_corda.evaluation.math import equivalence, hendrycks
from kasa_corda.evaluation.math.extraction import PAPER_MARKER, last_boxed, paper_answer, robust_answer
from kasa_corda.launch import prepare

HERE = Path(__file__).parent
TABLE = HERE / "data" / "math_answers.jsonl"
_, *CASES = map(json.loads, TABLE.read_text("utf-8").splitlines())
REAL = Path(os.environ.get("KASA_CORDA_DATA") or ROOT.parent / "shared" / "data")
MARKER = "The answer is: "
LIMIT = 0.05
"""seconds a grader may take for one item"""


def paper_rule(case: dict) -> bool:
    """The papers' verdict: numbers for GSM8K, Hendrycks' normal form for MATH."""
    if case["task"] == "math":
        answer = paper_answer(case["text"])
        return answer is not None and hendrycks.equivalent(answer, case["gold"])
    rest = after_last(case["text"], PAPER_MARKER)
    return rest is not None and paper_number(rest) == int(case["gold"])


def test_the_table_has_the_cases_it_must_have_and_explains_every_disagreement_with_math_verify():
    assert len({(case["text"], case["gold"]) for case in CASES}) >= 150
    assert {case["robust"] for case in CASES} == {case["paper"] for case in CASES} == {True, False}
    differing = [c for c in CASES if not c["robust"] == c["math_verify"] == c["math_verify_answer"]]
    assert differing and all(case["note"] for case in differing)
    assert not any(case["note"] for case in CASES if case not in differing)


def test_the_robust_rule_extracts_and_judges_every_case_of_the_table_right():
    extracted = {(c["text"], c["gold"]): robust_answer(c["text"]) for c in CASES}
    assert extracted == {(c["text"], c["gold"]): c["answer"] for c in CASES}
    wrong = [c for c in CASES if equivalence.equivalent(c["answer"], c["gold"]) != c["robust"]]
    assert not wrong


def test_the_papers_rule_judges_every_case_of_the_table_as_the_scripts_do_with_their_known_cuts():
    assert not [c for c in CASES if paper_rule(c) != c["paper"]]
    cut = {c["text"]: c["paper"] for c in CASES if c["task"] == "gsm8k" and c["gold"] == "1234"}
    assert cut[MARKER + "1,234,567"]  # the regex reads one separator only


@pytest.mark.skipif(
    "KASA_CORDA_MATH_VERIFY" not in os.environ, reason="names no Python with math-verify (see math_verify_verdicts.py)"
)
def test_math_verify_gives_the_verdicts_of_the_table():
    command = [os.environ["KASA_CORDA_MATH_VERIFY"], str(HERE / "math_verify_verdicts.py"), str(TABLE)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []


@pytest.mark.parametrize(
    ("text", "form"),
    [
        (r"\tfrac12", r"\frac{1}{2}"),
        (r"\frac1{72}", r"\frac{1}{72}"),
        (r"\frac{1}2", r"\frac{1}2"),
        (r"\sqrt3 x", r"\sqrt{3}x"),
        ("0.5", r"\frac{1}{2}"),
        (".25", "0.25"),
        ("3/4", r"\frac{3}{4}"),
        ("03/4", "03/4"),
        ("x = 7", "7"),
        ("f(x) = 7", "f(x)=7"),
        (r"10\text{ cm}", "10"),
        (r"10\text{cm}", r"10\text{cm}"),
        (r"50\%", "50"),
        ("50%", "50%"),
        (r"\left(1,\!2\right)", "(1,2)"),
        (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}1\2\end{pmatrix}"),
        (r"1\text{ and }2\text{ cm}", None),
        (r"\sqrt", None),
        (r"\frac", None),
        (r"\frac1", r"\frac1"),
    ],
)
def test_hendrycks_normal_form_has_the_published_quirks(text, form):
    assert hendrycks.normal_form(text) == form


def test_an_answer_without_normal_form_equals_itself_only_and_a_missing_one_nothing():
    assert hendrycks.equivalent(r"\sqrt", r"\sqrt") and not hendrycks.equivalent(r"\sqrt", "2")
    assert not hendrycks.equivalent(None, "2")
    assert not any(
        equivalence.equivalent(a, b) for a, b in [(None, "2"), ("2", None), ("", ""), (" ", "$"), (None, None)]
    )


def test_boxed_answers_are_read_to_their_own_closing_brace():
    assert last_boxed(r"\boxed{1} and \boxed{\frac{1}{\sqrt{2}}}.") == r"\frac{1}{\sqrt{2}}"
    assert last_boxed(r"$\boxed 5$ is it") == "5" and last_boxed(r"\boxed{\boxed{7}}") == "7"
    assert last_boxed("none") is None and last_boxed(r"\boxed{1") is None


NUMBERS = st.fractions(min_value=-1000, max_value=1000, max_denominator=60)


@given(NUMBERS, NUMBERS)
@settings(max_examples=60, deadline=None)
def test_two_fractions_are_the_same_exactly_when_their_values_are(a, b):
    written = (f"{a.numerator}/{a.denominator}", f"\\frac{{{-a.numerator}}}{{{-a.denominator}}}", f"{a}")
    for x in written:
        assert equivalence.equivalent(x, str(a))
        assert equivalence.equivalent(x, f"\\dfrac{{{b.numerator}}}{{{b.denominator}}}") == (a == b)


@given(st.integers(1, 9), st.integers(-9, 9), st.integers(-9, 9))
@settings(max_examples=30, deadline=None)
def test_an_expanded_product_is_the_product_and_no_other_polynomial(a, b, c):
    product, expanded = f"({a}x+{b})(x+{c})", f"{a}x^2+{a * c + b}x+{b * c}"
    assert equivalence.equivalent(expanded, product)
    assert not equivalence.equivalent(expanded + "+1", product)


SIGNS = r"""\frac \sqrt {
    } ( ) [ ] 1 2 345 1,234 0.5 . x = < \le ^ _ 9 ^9^9 \text{ cm and \pi \sin ! | \boxed{ #### & \\
    \cup , \infty % ± e5 / * - \binom \overline{ base² ٣ \begin{pmatrix} \end{pmatrix} answer $ \[ \] \left( \{ \}"""
PIECES = st.sampled_from([*SIGNS.split(), " ", "\n", MARKER, "1" * 60, "\x00"])
RANDOM = st.one_of(st.text(max_size=80), st.lists(PIECES, max_size=80).map("".join))
NASTY = [
    *("1" * 10_000, "{" * 10_000, "(" * 300 + ")" * 300, "\\boxed{" * 3000, "\\frac" * 2000, "10^9^9", "9^{9^{9^{9}}}"),
    *(MARKER * 2000, "$" * 5001, "1,234," * 90, "\\sqrt{" * 90 + "2" + "}" * 90, "\\sin" * 150, "1/7+" * 70 + "1/3"),
    *("\\[" * 5000, "5" + "!" * 400, "|" * 500, "[1," * 100 + "2" + "]" * 100, "\\frac{1}{" * 30 + "x" + "}" * 30),
    *("=".join("1" * 290), "2^{3999}*" * 60 + "2", "{x+1}^{100}" * 20, "x_{" * 150, "\\overline{" * 60, "1 2/3 " * 90),
]


def seconds_to_grade(text: str, gold: str) -> float:
    """Processor time of everything that grades one text."""
    start = time.process_time()
    equivalence.equivalent(robust_answer(text), gold)
    hendrycks.equivalent(paper_answer(text), gold)
    equivalence.equivalent(text, gold)
    hendrycks.equivalent(text, gold)
    paper_rule({"task": "gsm8k", "text": text, "gold": "5"})
    return time.process_time() - start


def always_quick(text: str, gold: str) -> bool:
    return any(seconds_to_grade(text, gold) < LIMIT for _ in range(3))  # a busy machine may stop us once


@given(RANDOM, RANDOM)
@settings(max_examples=150, deadline=None)
def test_graders_never_raise_and_are_quick_on_random_texts(text, gold):
    assert always_quick(text, gold) and always_quick(MARKER + text, text + " ")


@pytest.mark.parametrize("text", NASTY, ids=range(len(NASTY)))
def test_graders_never_raise_and_are_quick_on_texts_made_to_stop_them(text):
    assert always_quick(text, text + " ") and always_quick(MARKER + text, "5") and always_quick("5", text)


SOLUTIONS = [
    ("What is half of 1?", r"It is $\boxed{\frac{1}{2}}$.", r"\frac{1}{2}", "Algebra", "Level 1"),
    ("Solve $x^2=4$.", r"$x=\boxed{-2, 2}$", "-2, 2", "Algebra", "Level 3"),
    ("How many degrees?", r"There are $\boxed{90^\circ}$.", r"90^\circ", "Geometry", "Level 1"),
]


@pytest.fixture
def data_dir(tmp_path) -> Path:
    """MATH in the layout of the local files (training by subject, test with ids) and MetaMathQA's list."""
    trained = [{"instruction": "Help", "input": q, "output": s, "answer": a} for q, s, a, *_ in SOLUTIONS]
    for name in make_task("math").config.files["train"]:
        write_jsonl(tmp_path / "math" / name, [{**row, "input": f"{name}: {row['input']}"} for row in trained])
    tested = [
        {"id": f"test/{subject.lower()}/{i}.json", "question": q, "answer": a}
        for i, (q, _, a, subject, _) in enumerate(SOLUTIONS)
    ]
    write_jsonl(tmp_path / "math" / "MATH_test.jsonl", tested)
    rewritten = [
        {"query": f"Question {i}?", "response": f"So {i}.\n{MARKER}{i}", "type": "GSM_Rephrased"} for i in range(30)
    ]
    (tmp_path / "metamath").mkdir()
    (tmp_path / "metamath" / "MetaMathQA-395K.json").write_text(json.dumps(rewritten), encoding="utf-8")
    return write_gsm8k(tmp_path)


def test_math_learns_solutions_with_the_papers_ending_and_is_asked_the_bare_question(data_dir):
    task = make_task("math", held_out=2)
    data = task.load(data_dir, "held_out")
    assert len(data.train) + len(data.select) == 12 and len(data.test["test"]) == 3
    assert any("train has 12 examples, published are 7,500" in note for note in data.notes)
    half = next(e for e in data.train + data.select if "half" in e.text)
    assert half.target == "It is $\\boxed{\\frac{1}{2}}$.\nThe answer is: \\frac{1}{2}"
    first = data.test["test"][0]
    assert first.label == {"answer": r"\frac{1}{2}", "subject": "algebra"} and first.target is None
    assert task.prompt_of(first).endswith("### Instruction:\nWhat is half of 1?\n\n### Response:")


def test_math_reports_both_rules_with_errors_and_by_subject(data_dir):
    texts = [["so \\boxed{0.5}"], [MARKER + "2, -2"], [MARKER + "90^\\circ.\n"]]
    for rule, score in (("robust", 1.0), ("paper", 1 / 3)):
        task = make_task("math", rule=rule)
        examples = task.load(data_dir, "held_out").test["test"]
        evaluation = task.grade(examples, texts)
        assert evaluation.scores == pytest.approx(
            {"exact_match": score, "exact_match_paper": 1 / 3, "exact_match_robust": 1.0}
        )
        assert set(evaluation.errors) == set(evaluation.scores) == set(task.text_metrics)
        assert evaluation.rows[0]["prediction_paper"] is None and evaluation.rows[0]["prediction_robust"] == "0.5"
        assert [row["subject"] for row in evaluation.rows] == ["algebra", "algebra", "geometry"]
    assert evaluation.notes == ["exact_match by subject: algebra 0.0% of 2, geometry 100.0% of 1"]


def test_the_hub_columns_of_math_are_read_and_levels_reported(tmp_path):
    rows = [{"problem": q, "level": level, "type": kind, "solution": s} for q, s, _, kind, level in SOLUTIONS]
    write_jsonl(tmp_path / "math" / "MATH_test.jsonl", rows)
    write_jsonl(tmp_path / "math" / "train.jsonl", rows)
    task = make_task("math", files={"train": ["train.jsonl"]})
    examples = task.load(tmp_path, "paper").test["test"]
    assert examples[1].label == {"answer": "-2, 2", "subject": "Algebra", "level": "Level 3"}
    evaluation = task.grade(examples, [[example.target] for example in examples])
    assert set(evaluation.scores.values()) == {1.0}
    assert "exact_match by level: Level 1 100.0% of 2, Level 3 100.0% of 1" in evaluation.notes


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({"question": "q", "output": "no box"}, "there is no answer"),
        ({"output": "\\boxed{1}"}, "none of the question columns problem, question, input"),
        ({"question": "q", "answer": 5}, "there is no answer"),
    ],
)
def test_rows_of_math_without_question_or_answer_are_named(row, sentence, data_dir):
    write_jsonl(data_dir / "math" / "MATH_test.jsonl", [row])
    with pytest.raises(DataError, match=r"MATH_test\.jsonl, line 1.*" + sentence):
        make_task("math").load(data_dir, "paper")


def test_metamath_trains_on_the_first_rows_and_is_evaluated_on_gsm8k_and_math(data_dir):
    task = make_task("metamath", first=20, held_out=5)
    data = task.load(data_dir, "held_out")
    assert sorted(int(e.label["answer"]) for e in data.train + data.select) == list(range(20))
    assert "trained on the first 20 of 30 rows" in data.notes
    assert all(e.target == f"So {e.label['answer']}.\nThe answer is: {e.label['answer']}" for e in data.train)
    assert {name: len(split) for name, split in data.test.items()} == {"gsm8k": 12, "math": 3}
    assert task.config.metric == "gsm8k_exact_match" in task.metrics and "math_exact_match_paper" in task.metrics


def test_gsm8k_keeps_its_score_and_adds_the_papers_and_the_robust_one(data_dir):
    task = make_task("gsm8k")
    examples = task.load(data_dir, "held_out").test["test"][:4]
    gold = [int(example.label[0]) for example in examples]
    texts = [
        [f"{MARKER}{gold[0]}"],
        [f"#### {gold[1]}"],
        [f"The answer is:{gold[2]:,}"],
        [f"{MARKER}{gold[3]}.4"],
    ]
    evaluation = task.grade(examples, texts)
    assert evaluation.scores == {"exact_match": 0.5, "exact_match_paper": 0.5, "exact_match_robust": 0.75}
    assert [row["exact_match_paper"] for row in evaluation.rows] == [1.0, 0.0, 0.0, 1.0]
    assert [row["score"] for row in evaluation.rows] == [1.0, 0.0, 1.0, 0.0]


def test_choosing_by_likelihood_on_a_test_file_without_solutions_is_refused(data_dir):
    with pytest.raises(ConfigError, match=r"needs worked solutions, which MATH_test.jsonl lacks"):
        make_task("math").load(data_dir, "paper")
    assert make_task("math", select_by="exact_match").load(data_dir, "paper").select


def test_a_marker_that_the_response_lacks_is_refused():
    with pytest.raises(ConfigError, match=r"task.marker='Result:' must stand in task.response"):
        prepare(compose("task=math", "model=smollm2_135m", "method=lora", "task.marker='Result:'"))


@pytest.mark.skipif(not (REAL / "math").is_dir(), reason="real data sets are not on this machine")
def test_every_published_solution_is_extracted_and_equals_its_own_answer_under_both_rules():
    missed: dict[str, list[str]] = {}
    for name, files in (("gsm8k", {}), ("math", {"test": "test.jsonl"})):
        task = make_task(name, files=files)
        data = task.load(REAL, "held_out")
        examples = data.train + data.select + data.test["test"]
        assert len(examples) == {"gsm8k": 8792, "math": 7661}[name]
        for row, example in zip(task.grade(examples, [[e.target] for e in examples]).rows, examples, strict=True):
            for metric in task.text_metrics:
                if not row[metric]:
                    missed.setdefault(metric, []).append(example.label["answer"])
    # two published boxes are empty; two hold a full stop, which the papers' rule drops from predictions only
    assert missed == {
        "exact_match": ["", ""],
        "exact_match_robust": ["", ""],
        "exact_match_paper": [r"-\frac{5}{3}.", "43_5."],
    }
    stored = make_task("math").load(REAL, "held_out").test["test"]
    for example in stored:
        gold = example.label["answer"]
        assert equivalence.equivalent(gold, gold) and hendrycks.equivalent(gold, gold)
