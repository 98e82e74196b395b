"""Examples as a language model reads them: prompts, responses, what is learned, and what did not fit."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ..errors import DataError
from ._shots import Shots
from ._tokens import Tokens, common, joined, shortened, tokenised
from .base import Example, Task

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Prompted(Task):
    """The part of a generation task that knows tokenizers; its config is a ``CausalConfig``."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self._cut: set[str] = set()
        self._cut_prompts: set[str] = set()
        self.shots = Shots(config.few_shot)
        self.positions: int | None = None
        """of the evaluating model, for prompt and answer; None where it is not known"""
        self.further: dict[str, Task] = {}
        """the other tasks it evaluates, by name"""

    @property
    def truncated(self) -> int:
        return len(self._cut | self._cut_prompts)

    def fit_into(self, positions: int) -> None:
        self.positions = positions
        for task in self.further.values():
            task.fit_into(positions)

    def prompt_of(self, example: Example) -> str:
        """The plain prompt; a family may fill in more than the question."""
        return self.config.prompt.replace("{question}", example.text)

    def prompt_texts(self, examples: list[Example], tokenizer: PreTrainedTokenizerBase, suffix: str = "") -> list[str]:
        """Prompts as the model reads them: plain, or in the tokenizer's chat template."""
        if self.config.chat is None:
            return [self.prompt_of(example) + suffix for example in examples]
        said = [self.config.chat.replace("{question}", example.text) + suffix for example in examples]
        return [
            str(
                tokenizer.apply_chat_template(
                    [{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True
                )
            )
            for text in said
        ]

    def calibration_texts(self, examples: list[Example]) -> list[str]:
        """Prompt and response, as trained on (CorDA's IPA reads the fine-tuning data)."""
        return [self.prompt_of(example) + (example.target or "") for example in examples]

    def encode(self, examples: list[Example], tokenizer: PreTrainedTokenizerBase) -> list[dict[str, Any]]:
        """Token ids of prompt, response and end token, cut at max_length; labels are -100 where nothing is learned.

        DataError if more than the share ``max_truncated`` loses a part of the response.
        """
        from ..evaluation._likelihood import scored_row

        rows = self.tokens(examples, tokenizer)
        self._check_cut(rows)
        everything = self.config.loss_on == "all"
        # the first token has nothing before it to be predicted from
        return [scored_row(t.ids, 1 if everything else t.start, len(t.ids)) for t in rows]

    def _check_cut(self, rows: list[Tokens]) -> None:
        config = self.config
        cut = [tokens.needed for tokens in rows if tokens.cut_response]
        if len(cut) <= config.max_truncated * len(rows):
            return
        lengths = sorted(tokens.needed for tokens in rows)
        enough = lengths[math.ceil((1 - config.max_truncated) * len(lengths)) - 1]
        raise DataError(
            f"task {config.name}: task.max_length={config.max_length} cuts the responses of {len(cut):,} of"
            f" {len(rows):,} training examples, above task.max_truncated={config.max_truncated:g}; use"
            f" task.max_length={max(enough, config.max_length + 1)} ({lengths[-1]} holds every response whole)"
        )

    def reference_rows(self, examples: list[Example], tokenizer: PreTrainedTokenizerBase) -> list[dict[str, Any]]:
        """Rows for scoring: labels on the reference response alone, without the end token."""
        from ..evaluation._likelihood import scored_row

        limit = (self.positions or self.config.max_length) if self.config.few_shot else self.config.max_length
        prompts = self.test_prompts(examples, tokenizer)
        tokens = self._with_responses(examples, prompts, tokenizer, limit)
        return [scored_row(t.ids, t.start, t.end) for t in tokens]

    def prompts(self, examples: list[Example], tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
        """Token ids of the prompts that generation goes on from.

        Those that leave no room for max_new_tokens among ``positions`` are cut in the middle and counted.
        """
        rows = tokenised(self.test_prompts(examples, tokenizer), tokenizer)
        if self.positions is None:
            return rows
        room = max(1, self.positions - self.config.max_new_tokens)
        for example, row in zip(examples, rows, strict=True):
            if len(row) > room:
                self._cut_prompts.add(f"{example.task or ''}/{example.id}")
        return [shortened(row, room) for row in rows]

    def test_prompts(self, examples: list[Example], tokenizer: PreTrainedTokenizerBase) -> list[str]:
        """The prompts of evaluation: with the few-shot examples, and with test_suffix."""
        return self.shots.before(self.prompt_texts(examples, tokenizer, self.config.test_suffix), self, tokenizer)

    def continued(
        self, examples: list[Example], continuations: list[list[str]], tokenizer: PreTrainedTokenizerBase
    ) -> list[dict[str, Any]]:
        """Rows for scoring every continuation of every example, in order: labels on the continuation alone."""
        from ..evaluation._likelihood import scored_row

        prompts = self.test_prompts(examples, tokenizer)
        alone = tokenised(prompts, tokenizer)
        texts = [p + text for p, options in zip(prompts, continuations, strict=True) for text in options]
        starts = [ids for ids, options in zip(alone, continuations, strict=True) for _ in options]
        whole = tokenised(texts, tokenizer)
        return [scored_row(ids, common(prompt, ids), len(ids)) for prompt, ids in zip(starts, whole, strict=True)]

    def tokens(self, examples: list[Example], tokenizer: PreTrainedTokenizerBase) -> list[Tokens]:
        """Training examples as tokens; those cut at max_length are counted in ``truncated``."""
        return self._with_responses(examples, self.prompt_texts(examples, tokenizer), tokenizer, self.config.max_length)

    def _with_responses(
        self, examples: list[Example], prompts: list[str], tokenizer: PreTrainedTokenizerBase, limit: int
    ) -> list[Tokens]:
        if tokenizer.eos_token_id is None:
            raise DataError(f"task {self.config.name} needs a tokenizer with an end token, to learn where answers end")
        alone = tokenised(prompts, tokenizer)
        whole = tokenised([p + (e.target or "") for p, e in zip(prompts, examples, strict=True)], tokenizer)
        result = []
        for example, prompt, ids in zip(examples, alone, whole, strict=True):
            tokens = joined(prompt, ids, tokenizer.eos_token_id, limit, self.config.cut)
            if tokens.start >= tokens.end:
                raise DataError(
                    f"task {self.config.name}, example {example.id}: task.max_length={limit} leaves no room for the "
                    f"response after a prompt of {len(prompt)} tokens; use task.max_length={tokens.needed} or more, or"
                    " task.cut=prompt"
                )
            if tokens.needed > limit:
                cut = self._cut if tokens.cut_response else self._cut_prompts
                cut.add(f"{example.task or ''}/{example.id}")
            result.append(tokens)
        return result

    @property
    def notes(self) -> list[str]:
        told = []
        if self.config.loss_on == "all":
            told.append("the prompt is learned too (task.loss_on=all)")
        if self._cut:
            told.append(f"{len(self._cut):,} responses were cut at task.max_length={self.config.max_length}")
        if self._cut_prompts:
            told.append(f"{len(self._cut_prompts):,} prompts were too long; tokens in their middle were left out")
        further = (f"{name}: {note}" for name, task in self.further.items() for note in task.notes)
        return [*told, *self.shots.notes, *further]
