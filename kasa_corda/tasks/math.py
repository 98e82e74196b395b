r"""MATH (Hendrycks et al. 2021): competition problems with worked solutions and answers in LaTeX.

``exact_match_paper`` is the rule of the MetaMath, PiSSA and CorDA scripts: the text behind the last "The answer is: "
up to ".\n", equal in Hendrycks' normal form to the last \boxed of the published solution. ``exact_match_robust`` also
finds answers in \boxed, behind "####" or at the end of a text, and compares what they mean
(kasa_corda/evaluation/math/equivalence.py). ``exact_match`` is the one that task.rule names.

Also reads MetaMathQA (Yu et al. 2023), whose solutions end in the marker (configs/task/metamath.yaml).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from ..config.schema import option
from ..errors import ConfigError, DataError
from ..evaluation.answers import after_last
from ..evaluation.base import Evaluation
from ..evaluation.generation import EXACT_MATCH, LIKELIHOOD
from . import TASKS
from ._causal import CausalTask
from ._causal_config import CausalConfig
from ._rows import Row, Rows
from ._rules import PAPER, ROBUST, add_rule
from .base import Example, TaskData

GROUPS = {"subject": ("subject", "type"), "level": ("level",)}
"""what accuracy is also given by: name, and the columns that may hold it"""


@dataclass
class MathConfig(CausalConfig):
    """Problems answered by an expression."""

    marker: str = option("The answer is:", "stands before the answer in what is learned; the robust rule looks for it")
    rule: str = option(
        "robust",
        "what exact_match is: robust compares meanings, paper spellings as the authors' scripts do",
        choices=("robust", "paper"),
    )
    question: list[str] = option(["problem", "question", "input"], "column of the question, the first that is there")
    solution: list[str] = option(["solution", "output"], "column of the worked solution, if any")
    first: Optional[int] = option(None, "train on the first so many rows as published; null is all", at_least=1)


@TASKS.register("math")
class Math(CausalTask):
    Config = MathConfig

    @property
    def text_metrics(self) -> tuple[str, ...]:
        return (EXACT_MATCH, PAPER, ROBUST)

    def check(self) -> None:
        super().check()
        config = self.config
        if not config.marker.strip() or ("{answer}" in config.response and config.marker not in config.response):
            raise ConfigError(
                f"task.marker={config.marker!r} must stand in task.response={config.response!r}; "
                "without it the papers' rule finds no answer"
            )

    def example(self, row: Row, key: str) -> Example:
        question = row.text(_column(row, self.config.question, "question"))
        worked = next((row.text(column) for column in self.config.solution if column in row.values), None)
        gold = self.gold(row, worked)
        response = self.config.response.replace("{answer}", gold)
        target = response.replace("{solution}", worked.strip()) if worked else None
        return Example(key, question.strip(), label={"answer": gold, **_groups(row)}, target=target)

    def gold(self, row: Row, worked: str | None) -> str:
        r"""What stands behind the marker of the solution, else in its last \boxed, else in the answer column."""
        from ..evaluation.math.extraction import last_boxed, paper_answer

        marked = after_last(worked or "", self.config.marker)
        gold = last_boxed(worked or "") if marked is None else paper_answer(worked or "") or marked.strip()
        if gold is None:
            gold = row.values.get("answer")
        if not isinstance(gold, str):
            raise DataError(
                f"{row.where}: there is no answer: neither {self.config.marker!r}, \\boxed nor a column 'answer'"
            )
        return gold.strip()

    def extract(self, text: str) -> str | None:
        from ..evaluation.math.extraction import paper_answer, robust_answer

        return paper_answer(text) if self.config.rule == "paper" else robust_answer(text, self.config.marker)

    def matches(self, prediction: str | None, accepted: Any) -> bool:
        from ..evaluation.math import equivalence, hendrycks

        if prediction is None:
            return False
        rule = hendrycks if self.config.rule == "paper" else equivalence
        return rule.equivalent(prediction, accepted["answer"])

    def grade(self, examples: list[Example], texts: list[list[str]]) -> Evaluation:
        from ..evaluation.math import equivalence, hendrycks
        from ..evaluation.math.extraction import paper_answer, robust_answer

        evaluation = super().grade(examples, texts)
        golds = [example.label["answer"] for example in examples]
        papers = [paper_answer(first) for first, *_ in texts]
        same = [p is not None and hendrycks.equivalent(p, gold) for p, gold in zip(papers, golds, strict=True)]
        add_rule(evaluation, PAPER, papers, same)
        robust = [robust_answer(first, self.config.marker) for first, *_ in texts]
        right = [equivalence.equivalent(*pair) for pair in zip(robust, golds, strict=True)]
        add_rule(evaluation, ROBUST, robust, right)
        for row, example in zip(evaluation.rows, examples, strict=True):
            row |= {name: example.label[name] for name in GROUPS if name in example.label}
        evaluation.notes += [note for name in GROUPS if (note := by_group(evaluation.rows, name))]
        return evaluation

    def load(self, data_dir: Path | None, selection: str) -> TaskData:
        data = super().load(data_dir, selection)
        if selection == "paper" and self.config.select_by == LIKELIHOOD and not all(e.target for e in data.select):
            raise ConfigError(
                f"task.select_by={LIKELIHOOD} needs worked solutions, which {self.config.files['test']} lacks; with "
                f"selection=paper use task.select_by={EXACT_MATCH}, or use selection=held_out"
            )
        return data

    def _examples(self, data_dir: Path | None, trains: bool) -> tuple[list[Example], list[Example], Rows]:
        train, test, found = super()._examples(data_dir, trains)
        if self.config.first is not None and len(train) > self.config.first:
            found.notes.append(f"trained on the first {self.config.first:,} of {len(train):,} rows")
            train = train[: self.config.first]
        return train, test, found


def by_group(rows: list[dict[str, Any]], name: str) -> str:
    """'exact_match by subject: algebra 40.0% of 1,187, ...'; empty where no row has one."""
    found: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        if name in row:
            found[row[name]].append(row[EXACT_MATCH])
    shares = ", ".join(f"{group} {sum(v) / len(v):.1%} of {len(v):,}" for group, v in sorted(found.items()))
    return f"{EXACT_MATCH} by {name}: {shares}" if shares else ""


def _column(row: Row, names: list[str], what: str) -> str:
    found = next((name for name in names if name in row.values), None)
    if found is None:
        raise DataError(
            f"{row.where}: none of the {what} columns {', '.join(names)} is there; found {', '.join(row.values)}"
        )
    return found


def _groups(row: Row) -> dict[str, str]:
    """Subject and level, from their columns or from an id such as test/algebra/17.json."""
    found = {
        name: str(row.values[column])
        for name, columns in GROUPS.items()
        for column in columns
        if row.values.get(column)
    }
    parts = str(row.values.get("id", "")).split("/")
    return {"subject": parts[1], **found} if len(parts) == 3 else found
