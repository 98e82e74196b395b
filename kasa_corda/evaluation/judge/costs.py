"""What judging will cost, before anything is sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .settings import JudgeConfig

BYTES_PER_TOKEN = 4.0
"""English text in the tokenizers of today's models, roughly; other scripts have more bytes per token"""
TOKENS_PER_MESSAGE = 4
"""a chat template's frame around each message"""


@dataclass(frozen=True)
class Estimate:
    """An upper estimate: every verdict is taken to be as long as it may be."""

    requests: int
    known: int
    """verdicts already on disk, which are not asked for again"""
    prompt_tokens: int
    verdict_tokens: int
    dollars: float | None
    """None without prices"""

    def text(self) -> str:
        """One line for the screen."""
        known = f" ({self.known:,} more are known)" if self.known else ""
        cost = "cost unknown: no prices are given" if self.dollars is None else f"at most about ${self.dollars:,.2f}"
        tokens = f"about {self.prompt_tokens:,} tokens of prompts, at most {self.verdict_tokens:,} of verdicts"
        return f"{self.requests:,} requests{known}, {tokens}: {cost}"


def estimate(asked: Sequence[list[dict[str, str]]], known: int, settings: JudgeConfig) -> Estimate:
    """The cost of sending each of ``asked`` (messages) once."""
    prompt = sum(tokens(message["content"]) + TOKENS_PER_MESSAGE for messages in asked for message in messages)
    verdicts = len(asked) * settings.max_tokens
    return Estimate(len(asked), known, prompt, verdicts, dollars(settings, prompt, verdicts))


def tokens(text: str) -> int:
    """About how many tokens a text has."""
    return round(len(text.encode("utf-8", "replace")) / BYTES_PER_TOKEN)


def dollars(settings: JudgeConfig, prompt_tokens: int, verdict_tokens: int) -> float | None:
    """US dollars at the given prices; None without them."""
    if settings.price_in is None or settings.price_out is None:
        return None
    return (prompt_tokens * settings.price_in + verdict_tokens * settings.price_out) / 1e6
