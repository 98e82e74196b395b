"""MT-Bench (Zheng et al. 2023, arXiv 2306.05685): 80 questions of two turns; answers are written, then judged.

The second turn's prompt holds the model's own answer to the first, so turns are generated one after the other.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

from ..config.schema import option
from ..errors import ConfigError, DataError
from ..evaluation import judge
from ..evaluation.base import Evaluation
from . import TASKS
from ._causal import CausalTask
from ._causal_config import CausalConfig
from ._judged import unjudged
from ._rows import Row, Rows
from .base import Example

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TURNS = 2


@dataclass
class MtBenchConfig(CausalConfig):
    """Questions of two turns without a right answer."""

    later_turn: str = option(
        "\n\n### Instruction:\n{question}\n\n### Response:",
        "plain prompts: what comes between an answer and the next, with the next {question}",
    )
    system: Optional[str] = option(None, "with task.chat: what the system says first; null says nothing")


@TASKS.register("mt_bench")
class MtBench(CausalTask):
    Config = MtBenchConfig

    @property
    def text_metrics(self) -> tuple[str, ...]:
        return judge.METRICS

    def check(self) -> None:
        super().check()
        config = self.config
        if "{question}" not in config.later_turn:
            raise ConfigError(f"task.later_turn={config.later_turn!r} must hold {{question}}")
        if "train" in config.files:
            raise ConfigError(f"task={config.name} has nothing to train on; task.files must name test alone")
        if config.samples > 1:
            raise ConfigError(f"task.samples={config.samples}: a later turn goes on from one answer; use 1")

    def example(self, row: Row, key: str) -> Example:
        """FastChat's layout: question_id, category, turns and, for some categories, a reference for every turn."""
        turns = [turn.strip() for turn in row.texts("turns")]
        if len(turns) != TURNS:
            raise DataError(f"{row.where}, 'turns': {len(turns)} turns; MT-Bench has {TURNS} per question")
        references = row.texts("reference") if row.values.get("reference") else None
        if references is not None and len(references) != len(turns):
            raise DataError(f"{row.where}, 'reference': {len(references)} references for {len(turns)} turns")
        number = row.values.get("question_id")
        if isinstance(number, bool) or not isinstance(number, int | str):
            raise DataError(f"{row.where}, 'question_id': {number!r} is not a number")
        label = {"turns": turns, "references": references, "category": row.text("category")}
        return Example(f"test-{number}", turns[0], label=label)

    def _examples(self, data_dir: Path | None, trains: bool) -> tuple[list[Example], list[Example], Rows]:
        train, test, found = super()._examples(data_dir, trains)
        seen: set[str] = set()
        for example in test:
            if example.id in seen:
                raise DataError(f"task {self.config.name}: question_id {example.id.removeprefix('test-')} stands twice")
            seen.add(example.id)
        return train, test, found

    def prompt_texts(self, examples: list[Example], tokenizer: PreTrainedTokenizerBase, suffix: str = "") -> list[str]:
        """Prompts of the turn that follows the answers so far (``label['answers']``)."""
        return [self._prompt(example, tokenizer, suffix) for example in examples]

    def _prompt(self, example: Example, tokenizer: PreTrainedTokenizerBase, suffix: str) -> str:
        label = example.label or {"turns": [example.text]}
        answers = label.get("answers", [])
        turns = label["turns"][: len(answers) + 1]
        if self.config.chat is None:
            text = self.config.prompt.replace("{question}", turns[0])
            for answer, question in zip(answers, turns[1:], strict=True):
                text += answer + self.config.later_turn.replace("{question}", question)
            return text + suffix
        messages = [{"role": "system", "content": self.config.system}] if self.config.system else []
        for question, answer in zip(turns, [*answers, None], strict=True):
            messages.append({"role": "user", "content": self.config.chat.replace("{question}", question)})
            messages += [] if answer is None else [{"role": "assistant", "content": answer}]
        messages[-1]["content"] += suffix
        return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))

    def prompts(self, examples: list[Example], tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
        """Prompts above max_length keep their end, and are counted in ``truncated``."""
        limit, rows = self.config.max_length, super().prompts(examples, tokenizer)
        self._cut |= {f"{e.task or ''}/{e.id}" for e, ids in zip(examples, rows, strict=True) if len(ids) > limit}
        return [ids[-limit:] for ids in rows]

    def next_turn(self, examples: list[Example], texts: list[list[str]]) -> list[Example]:
        """The same questions at their next turn, given the answers so far; none after the last turn."""
        if len(texts[0]) == TURNS:
            return []
        return [
            replace(example, label={**example.label, "answers": [self.extract(text) for text in said]})
            for example, said in zip(examples, texts, strict=True)
        ]

    def extract(self, text: str) -> str:
        return text.strip()

    def grade(self, examples: list[Example], texts: list[list[str]]) -> Evaluation:
        """No score, only rows that can be judged: ``texts`` holds the answer to each turn."""
        rows: list[dict[str, Any]] = []
        for example, said in zip(examples, texts, strict=True):
            answers = [self.extract(text) for text in said]
            label = example.label
            rows.append({"prediction": answers[-1], "reference": label["references"], "answers": answers, **label})
        return unjudged(self.config.metric, Evaluation({}, rows, {}))
