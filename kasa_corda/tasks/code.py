"""Programs from descriptions: HumanEval (Chen et al. 2021), MBPP (Austin et al. 2021), and EvalPlus' larger test sets.

What a model writes is run against the published tests in a sandbox (``evaluation.sandbox``) and scored by pass@k.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config.schema import option
from ..errors import ConfigError, DataError
from ..evaluation.base import Evaluation
from ..evaluation.code_metrics import pass_rates
from ..evaluation.completions import answered, code_of, truncated
from ..evaluation.errors import of_mean
from ..evaluation.sandbox import Limits, Program, choose, run_all
from ..evaluation.sandbox.pool import usable_cores
from . import TASKS
from ._causal import CausalTask
from ._causal_config import CausalConfig
from ._rows import Row, Rows
from ._tests import Needs, needs
from .base import Example

if TYPE_CHECKING:
    from ..config.schema import EvaluatorConfig
    from ..evaluation.sandbox import Outcome
    from ..progress import Progress

REFERENCE = "_scope = {{}}\nexec({solution!r}, _scope)\n_reference = _scope[{name!r}]\n"
"""a namespace of its own: a reference that calls itself must not reach the program of the same name"""
PLUS = "from guest.plus import check\ncheck({name!r}, {number}, {name}, _reference, {inputs!r}, {tolerance})"


@dataclass
class CodeConfig(CausalConfig):
    """Problems whose answers are programs with tests."""

    layout: str = option(
        "humaneval",
        "humaneval: the beginning of a function to go on with; mbpp: a description and tests",
        choices=("humaneval", "mbpp"),
    )
    answers: str = option(
        "completion",
        "completion: the text up to a stop string goes on from the prompt (base models); reply: code in a fenced block"
        " (chat models)",
        choices=("completion", "reply"),
    )
    pass_at: list[int] = option([1], "pass@k is reported for each of these; none above task.samples")
    shown_tests: int = option(1, "layout=mbpp: tests shown in the prompt, below the description", at_least=0)
    ids: dict[str, list[int]] = option(
        {}, "layout=mbpp: first and last task_id of a split, where one file holds all of them"
    )
    timeout: float = option(
        3.0, "CPU seconds that one program may take (with its tests four times as long, plus 2 s)", above=0, at_most=600
    )
    memory: float = option(1.0, "GiB of memory that one program may use", at_least=0.25)


@TASKS.register("code")
class Code(CausalTask):
    Config = CodeConfig
    sandbox = "auto"
    progress: Progress | None = None

    @property
    def text_metrics(self) -> tuple[str, ...]:
        return tuple(f"pass@{k}" for k in self.config.pass_at)

    def check(self) -> None:
        config = self.config
        if not config.pass_at or not all(1 <= k <= config.samples for k in config.pass_at):
            raise ConfigError(
                f"task.pass_at={list(config.pass_at)} must name numbers from 1 to task.samples={config.samples}: "
                "pass@k needs at least k samples"
            )
        super().check()
        if config.chat is not None and config.answers != "reply":
            raise ConfigError("task.chat needs task.answers=reply and no stop strings of code (task=humaneval_chat)")
        for split, bounds in config.ids.items():
            if split not in config.files or len(bounds) != 2:
                raise ConfigError(
                    f"task.ids.{split}={list(bounds)} must be the first and last task_id of train or test"
                )

    def example(self, row: Row, key: str) -> Example:
        make = self._humaneval if self.config.layout == "humaneval" else self._mbpp
        question, solution, program = make(row)
        target = solution.join(self.config.response.replace("{question}", question).split("{answer}"))
        label = {"task_id": row.values.get("task_id"), **asdict(program)}
        del label["source"]
        return Example(key, question, label=label, target=target)

    def _humaneval(self, row: Row) -> tuple[str, str, Program]:
        """The prompt is stripped, as bigcode-evaluation-harness does: what goes on from it begins with a line break."""
        prompt, name = row.text("prompt"), row.text("entry_point")
        question = prompt.strip()
        solution = prompt[len(prompt.rstrip()) :] + row.text("canonical_solution").rstrip()
        if "test" in row.values:
            tests = [row.text("test"), f"check({name})"]
            return question, solution, Program("", [name], tests, before=prompt)
        before = REFERENCE.format(solution=question + solution, name=name)
        return question, solution, Program("", [name], [self._plus(row, name, None)], before)

    def _mbpp(self, row: Row) -> tuple[str, str, Program]:
        solution = row.text("code" if "code" in row.values else "canonical_solution").replace("\r\n", "\n").strip("\n")
        setup = [text for text in (row.values.get("test_setup_code"),) if isinstance(text, str) and text.strip()]
        if "plus_input" in row.values:
            name = row.text("entry_point")
            number = int(row.text("task_id").rpartition("/")[2])
            before = REFERENCE.format(solution=solution, name=name)
            return row.text("prompt").strip(), solution, Program("", [name], [self._plus(row, name, number)], before)
        shown = row.texts("test_list")
        tests = [*setup, row.text("test")] if row.values.get("test") else [*setup, *shown]
        try:
            wanted: Needs = needs(tests, solution)
        except (SyntaxError, ValueError, RecursionError) as error:
            raise DataError(f"{row.where}: tests or solution are not Python ({error})") from None
        imports = row.values.get("test_imports") or []
        before = wanted.imports + "\n".join(imports)
        described = row.text("text" if "text" in row.values else "prompt").strip()
        question = "\n".join([described, *shown[: self.config.shown_tests]])
        return question, solution, Program("", wanted.names, tests, before)

    @staticmethod
    def _plus(row: Row, name: str, number: int | None) -> str:
        """EvalPlus' released files have inputs, and the reference solution gives the results."""
        inputs = [*(row.values.get("base_input") or []), *(row.values.get("plus_input") or [])]
        if not inputs or not all(isinstance(arguments, list) for arguments in inputs):
            raise DataError(f"{row.where}: neither 'test' nor lists of arguments in 'base_input' and 'plus_input'")
        tolerance = row.values.get("atol") or 0
        return PLUS.format(name=name, number=number, inputs=json.dumps(inputs), tolerance=tolerance)

    def _examples(self, data_dir: Path | None, trains: bool) -> tuple[list[Example], list[Example], Rows]:
        train, test, found = super()._examples(data_dir, trains)
        kept = {}
        for name, split in (("train", train), ("test", test)):
            first, last = self.config.ids.get(name, (None, None))
            kept[name] = [e for e in split if first is None or first <= _number(e.label["task_id"], e.id) <= last]
            if split and not kept[name]:
                raise DataError(f"task {self.config.name}: no task_id from {first} to {last} in {found.source}")
        return kept["train"], kept["test"], found

    @property
    def limits(self) -> Limits:
        """What one program may use."""
        return Limits(cpu_seconds=self.config.timeout, memory_bytes=int(self.config.memory * (1 << 30)))

    def ready(self, evaluator: EvaluatorConfig) -> None:
        choose(getattr(evaluator, "sandbox", self.sandbox))

    def equip(self, evaluator: EvaluatorConfig, progress: Progress) -> None:
        self.sandbox, self.progress = getattr(evaluator, "sandbox", self.sandbox), progress

    def program(self, example: Example, text: str) -> str:
        """What is run for a generated text."""
        humaneval = self.config.layout == "humaneval"
        if self.config.answers == "reply":
            names = example.label["names"]
            code = code_of(text, names[0] if names else None)
            return answered(f"{example.text}\n", code, names[0]) if humaneval else code
        completion = truncated(text, self.config.stop)
        return f"{example.text}{completion}" if humaneval else completion

    def grade(self, examples: list[Example], texts: list[list[str]]) -> Evaluation:
        """pass@k, with every sample's verdict in the rows; score is the problem's pass@1."""
        programs = [[self.program(e, text) for text in samples] for e, samples in zip(examples, texts, strict=True)]
        judged = iter(self._judged([self.job(e, p) for e, ps in zip(examples, programs, strict=True) for p in ps]))
        outcomes = [[next(judged) for _ in samples] for samples in programs]
        passed = [[outcome.passed for outcome in samples] for samples in outcomes]
        rates = {f"pass@{k}": pass_rates(passed, k) for k in self.config.pass_at}
        single = pass_rates(passed, 1)
        rows = []
        for i, (sources, found) in enumerate(zip(programs, outcomes, strict=True)):
            row: dict[str, Any] = {"task_id": examples[i].label["task_id"], "prediction": sources[0]}
            row |= {"programs": sources} if len(sources) > 1 else {}
            row |= {"passed": passed[i], "failure": [o.kind for o in found], "said": [o.detail for o in found]}
            rows.append(row | {name: values[i] for name, values in rates.items()} | {"score": single[i]})
        scores = {name: sum(values) / len(values) for name, values in rates.items()}
        return Evaluation(scores, rows, {name: of_mean(values) for name, values in rates.items()})

    def job(self, example: Example, source: str) -> Program:
        """A program with the tests of its problem."""
        label = example.label
        return Program(source, list(label["names"]), list(label["tests"]), label["before"])

    def _judged(self, programs: list[Program]) -> list[Outcome]:
        """Every process of the run judges its share; all get all outcomes."""
        from accelerate import PartialState

        from ..evaluation.generation import shared_out
        from ..progress import Progress

        sandbox, processes = choose(self.sandbox), PartialState().num_processes
        workers = max(1, usable_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))
        progress = self.progress or Progress(show=False)
        with progress.phase(f"run in {sandbox.name}", len(programs), "program") as phase:

            def work(share: Sequence[int], processes: int) -> list[Outcome]:
                chosen = [programs[i] for i in share]
                return run_all(sandbox, chosen, self.limits, workers, lambda count: phase.advance(count * processes))

            return shared_out([range(first, len(programs), processes) for first in range(processes)], work)


def _number(task_id: Any, key: str) -> int:
    """'mbpp/601' and 601 are 601."""
    digits = str(task_id).rpartition("/")[2]
    if not digits.isdecimal():
        raise DataError(f"example {key}: task_id {str(task_id)[:40]!r} has no number")
    return int(digits)
