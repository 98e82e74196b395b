"""Instructions with one good response each: Alpaca, WizardLM-Evol, No Robots, the KaSA paper's synthetic sets.

Offline metrics compare with that response: ROUGE of a generated one, and how likely the given one is (loss in nats
per token, perplexity, answer_likelihood = exp(-loss)). A judge's score needs evaluator=judged.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

from ..config.schema import option
from ..errors import ConfigError, DataError, unknown
from ..evaluation import judge
from ..evaluation.base import Evaluation
from ..evaluation.errors import of_mean
from ..evaluation.generation import LIKELIHOOD
from ..evaluation.rouge import ROUGE, rouge
from . import TASKS
from ._causal import CausalTask
from ._causal_config import CausalConfig
from ._judged import unjudged
from ._rows import Row, Rows
from .base import Example

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FIELDS = ("instruction", "input", "output")
USERS = ("user", "human", "prompter")
ASSISTANTS = ("assistant", "gpt", "chatgpt", "bot", "model")


@dataclass
class InstructionsConfig(CausalConfig):
    """Instructions and responses, as columns or as conversations of which the first exchange counts."""

    layout: str = option(
        "fields",
        "fields: a column each; conversation: a list of turns, {role, content}, {from, value} or {human, assistant}",
        choices=("fields", "conversation"),
    )
    fields: dict[str, str] = option(
        {"instruction": "instruction", "input": "input", "output": "output"},
        "layout=fields: the columns of instruction and output, and of an input that may be missing or empty",
    )
    columns: list[str] = option(
        ["messages", "conversations", "conversation"],
        "layout=conversation: columns that may hold the turns; the first that is there does",
    )
    prompt_with_input: Optional[str] = option(
        None, "prompt of instructions that come with an {input}; null adds it to the instruction after a blank line"
    )


@TASKS.register("instructions")
class Instructions(CausalTask):
    Config = InstructionsConfig

    @property
    def text_metrics(self) -> tuple[str, ...]:
        return (*ROUGE, *judge.METRICS)

    def check(self) -> None:
        super().check()
        config = self.config
        if config.select_by in judge.METRICS:
            raise ConfigError(f"task.select_by={config.select_by} would ask the judge at every epoch; use {LIKELIHOOD}")
        for key in config.fields:
            if key not in FIELDS:
                raise ConfigError(unknown("task.fields", key, FIELDS))
        if config.layout == "fields" and not {"instruction", "output"} <= set(config.fields):
            raise ConfigError("task.fields must name the columns of instruction and output")
        if config.layout == "conversation" and not config.columns:
            raise ConfigError("task.columns is empty; it must name the columns that may hold the turns")
        given = config.prompt_with_input
        if given is not None and not ("{question}" in given and "{input}" in given):
            raise ConfigError(f"task.prompt_with_input={given!r} must hold {{question}} and {{input}}")

    def example(self, row: Row, key: str) -> Example:
        if self.config.layout == "conversation":
            given = ""
            instruction, output = first_exchange(row, self.config.columns)
        else:
            instruction, given, output = self._fields(row)
        target = self.config.response.replace("{answer}", output) if output else None
        return Example(key, instruction, given or None, label=[output], target=target)

    def _fields(self, row: Row) -> tuple[str, str, str]:
        """(instruction, input, output); the last two may be empty."""
        names = self.config.fields
        instruction = row.text(names["instruction"]).strip()
        given = _maybe_empty(row, names["input"]) if names.get("input") in row.values else ""
        return instruction, given, _maybe_empty(row, names["output"])

    def _examples(self, data_dir: Path | None, trains: bool) -> tuple[list[Example], list[Example], Rows]:
        train, test, found = super()._examples(data_dir, trains)
        kept = [[example for example in split if example.target] for split in (train, test)]
        empty = len(train) + len(test) - sum(map(len, kept))
        if empty:
            found.notes.append(f"{empty:,} examples with an empty response left out")
        return kept[0], kept[1], found

    def prompt_of(self, example: Example) -> str:
        with_input = self.config.prompt_with_input
        if example.text_pair and with_input:
            # piece by piece: an instruction may itself hold {input}
            pieces = [piece.replace("{input}", example.text_pair) for piece in with_input.split("{question}")]
            return example.text.join(pieces)
        return self.config.prompt.replace("{question}", whole_question(example))

    def prompt_texts(self, examples: list[Example], tokenizer: PreTrainedTokenizerBase, suffix: str = "") -> list[str]:
        if self.config.chat is None:
            return super().prompt_texts(examples, tokenizer, suffix)
        asked = [Example(example.id, whole_question(example)) for example in examples]
        return super().prompt_texts(asked, tokenizer, suffix)

    def extract(self, text: str) -> str:
        return text.strip()

    def grade(self, examples: list[Example], texts: list[list[str]]) -> Evaluation:
        rows: list[dict[str, Any]] = []
        for example, (first, *_) in zip(examples, texts, strict=True):
            prediction = self.extract(first)
            row: dict[str, Any] = {"prediction": prediction, **rouge(prediction, example.label[0])}
            row |= {"score": row[self.config.metric]} if self.config.metric in ROUGE else {}
            asked = {"turns": [whole_question(example)], "answers": [prediction], "references": example.label}
            rows.append(row | asked)
        columns = {name: [row[name] for row in rows] for name in ROUGE}
        scores = {name: sum(values) / len(values) for name, values in columns.items()}
        errors = {name: of_mean(values) for name, values in columns.items()}
        return unjudged(self.config.metric, Evaluation(scores, rows, errors))

    def combine(self, scores: dict[str, dict[str, float]]) -> dict[str, float]:
        """Also loss (nats per token) and perplexity of the reference responses, from answer_likelihood."""
        combined = super().combine(scores)
        likelihood = combined.get(LIKELIHOOD)
        if likelihood:
            combined |= {"loss": -math.log(likelihood), "perplexity": 1 / likelihood}
        return combined

    def combine_errors(self, errors: dict[str, dict[str, float]]) -> dict[str, float]:
        return CausalTask.combine(self, errors)


def whole_question(example: Example) -> str:
    """Instruction and input as one text."""
    return f"{example.text}\n\n{example.text_pair}" if example.text_pair else example.text


def first_exchange(row: Row, columns: list[str]) -> tuple[str, str]:
    """What the user said first (after what the system said, if anything) and the answer; either may not be empty.

    Without any of ``columns`` the row itself may be a turn of the form {human, assistant}.
    """
    column = next((name for name in columns if name in row.values), None)
    if column is None:
        if {"human", "assistant"} <= set(row.values):
            return row.text("human").strip(), _maybe_empty(row, "assistant")
        raise DataError(f"{row.where}: none of {', '.join(columns)} is there; found {', '.join(map(str, row.values))}")
    turns = row.values[column]
    if not isinstance(turns, list) or not turns or not all(isinstance(turn, dict) for turn in turns):
        raise DataError(f"{row.where}, {column!r}: {str(turns)[:80]!r} is not a list of turns")
    if {"human", "assistant"} <= set(turns[0]):
        turn = Row(turns[0], f"{row.where}, {column!r}")
        return turn.text("human").strip(), _maybe_empty(turn, "assistant")
    said = [_turn(turn, f"{row.where}, {column!r}") for turn in turns]
    system = [text for who, text in said[:1] if who == "system"]
    spoken = said[len(system) :]
    if [who for who, _ in spoken[:2]] != ["user", "assistant"]:
        found = ", ".join(who for who, _ in said[:3])
        raise DataError(f"{row.where}, {column!r}: begins with {found}, not with a user and an assistant")
    question = "\n\n".join(text for text in [*system, spoken[0][1]] if text)
    if not question:
        raise DataError(f"{row.where}, {column!r}: the user's first turn is empty")
    return question, spoken[1][1]


def _turn(turn: dict[str, Any], where: str) -> tuple[str, str]:
    """(who, text) of one turn; who is 'system', 'user', 'assistant', or as given."""
    who = str(turn.get("role", turn.get("from", "?"))).lower()
    text = turn.get("content", turn.get("value"))
    if not isinstance(text, str):
        raise DataError(f"{where}: {str(turn)[:80]!r} is not a turn with role and content, or from and value")
    return "user" if who in USERS else "assistant" if who in ASSISTANTS else who, text.strip()


def _maybe_empty(row: Row, column: str) -> str:
    """A column that holds a text, which may be empty; null counts as empty."""
    value = row.values.get(column, row)
    if value is None or isinstance(value, str):
        return (value or "").strip()
    return row.text(column)
