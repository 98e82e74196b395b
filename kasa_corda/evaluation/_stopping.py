"""When a generated text is finished, and how tokens become text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Stopping:
    """When a row is finished. The stop string is not part of its text; end tokens always stop."""

    max_new_tokens: int
    strings: list[str] = field(default_factory=list)

    def cut(self, text: str) -> str:
        """The text before the first stop string."""
        return text[: min((at for at in map(text.find, self.strings) if at >= 0), default=len(text))]

    @property
    def reach(self) -> int:
        """Tokens at the end of a text that surely hold a stop string which the last token completes."""
        return max(map(len, self.strings), default=0) + 1

    def over(self, tokenizer: Any, answer: Sequence[int], new: int = 1) -> bool:
        """Whether an answer is finished, of which the last ``new`` tokens have not been looked at."""
        if len(answer) >= self.max_new_tokens:
            return True
        tail = text_of(tokenizer, answer[-(self.reach + new - 1) :]) if self.strings else ""
        return any(text in tail for text in self.strings)


def text_of(tokenizer: Any, ids: Sequence[int]) -> str:
    """Tokens as text without special tokens."""
    return str(tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))


def end_tokens(model: Any, tokenizer: Any) -> set[int]:
    """Every token that ends a text: the tokenizer's, and those of the model's generation settings."""
    told = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    listed = told if isinstance(told, list) else [told]
    return {token for token in (tokenizer.eos_token_id, *listed) if token is not None}
