"""Few-shot evaluation: worked training examples before every prompt, the same for every model, seed and method."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..errors import DataError
from ._splits import digest, overlap, text_key, without_duplicates
from .base import Example

SEPARATOR = "\n\n"
"""stands behind every worked example"""


class Shots:
    """``count`` examples, drawn by hash of their text from those that are neither held out nor tested."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.examples: list[Example] = []
        self.notes: list[str] = []

    def choose(self, train: list[Example], tests: Iterable[list[Example]]) -> None:
        """Draw from ``train`` (without what is held out of it) and count what the draw shares with the tests."""
        if not self.count:
            return
        able = [example for example in without_duplicates(train) if example.target]
        if len(able) < self.count:
            raise DataError(f"task.few_shot={self.count} needs as many different training examples; found {len(able)}")
        self.examples = sorted(able, key=lambda example: digest("few shot", text_key(example)))[: self.count]
        self.notes = [f"evaluated with {self.count} worked training examples before every prompt"]
        shared = sum(overlap(self.examples, test) for test in tests)
        if shared:
            self.notes.append(f"{shared:,} test questions are also among the worked examples before every prompt")

    def before(self, prompts: list[str], task: Any, tokenizer: Any) -> list[str]:
        """The prompts with the worked examples before them."""
        if not self.count:
            return prompts
        if not self.examples:
            raise DataError(f"task.few_shot={self.count} needs the training examples, which are not loaded")
        questions = task.prompt_texts(self.examples, tokenizer, task.config.test_suffix)
        pairs = zip(questions, self.examples, strict=True)
        shown = "".join(f"{question}{example.target}{SEPARATOR}" for question, example in pairs)
        return [shown + prompt for prompt in prompts]
