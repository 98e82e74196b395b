"""Recomputes math-verify's verdicts on tests/data/math_answers.jsonl; needs math-verify in an environment of its own.

Its default ANTLR runtime (4.13) and Hydra's (4.9) exclude each other, and with 4.9 it reads less (50\\%, for one).

    python -m venv V && V/bin/pip install math-verify==0.9.0
    KASA_CORDA_MATH_VERIFY=V/bin/python pytest tests/test_math.py

Prints what differs as JSON: a list of [text, gold, stored, given].
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from pathlib import Path

from math_verify import parse, verify


def verdicts(case: dict) -> list[bool]:
    """On the whole text, and on our extracted answer in \\boxed."""
    gold = parse(f"\\boxed{{{case['gold']}}}")
    texts = (case["text"], f"\\boxed{{{case['answer']}}}" if case["answer"] else "")
    return [bool(verify(gold, parse(text))) for text in texts]


def main(table: Path) -> None:
    head, *cases = map(json.loads, table.read_text("utf-8").splitlines())
    for name in ("math-verify", "antlr4-python3-runtime"):
        if version(name) != head["versions"][name]:
            sys.exit(f"the table is of {name} {head['versions'][name]}, found {version(name)}")
    pairs = [(case, [case["math_verify"], case["math_verify_answer"]], verdicts(case)) for case in cases]
    print(json.dumps([[case["text"], case["gold"], old, new] for case, old, new in pairs if old != new]))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
