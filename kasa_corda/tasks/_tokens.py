"""Prompts and responses as token ids: what a tokenizer puts around a text stands there once, what is cut is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

CHUNK = 4096
"""texts tokenised together"""


@dataclass(frozen=True)
class Tokens:
    """One example as token ids: prompt, response and end token, cut at a limit."""

    ids: list[int]
    start: int
    """index of the response's first token"""
    end: int
    """index behind the response's last token; the end token comes here unless it was cut off"""
    needed: int
    """tokens of the whole example"""
    cut_response: bool = False
    """whether the end of the response is missing, if only its end token"""


def tokenised(texts: list[str], tokenizer: Any) -> list[list[int]]:
    """Token ids that begin with what the tokenizer itself puts before a text (a start token, or nothing), once.

    Once also where the text says it, as most chat templates and some prompts do. What the tokenizer puts behind a text
    (some an end token) is left out: here a text goes on.
    """
    before, behind = surroundings(tokenizer)
    rows: list[list[int]] = []
    for start in range(0, len(texts), CHUNK):
        rows += tokenizer(texts[start : start + CHUNK], verbose=False)["input_ids"]
    return [before + _stripped(row, before, behind) for row in rows]


def surroundings(tokenizer: Any) -> tuple[list[int], list[int]]:
    """The token ids that a tokenizer puts before and behind a text."""
    plain, whole = (tokenizer("a", add_special_tokens=added)["input_ids"] for added in (False, True))
    for start in range(len(whole) - len(plain) + 1):
        if whole[start : start + len(plain)] == plain:
            return whole[:start], whole[start + len(plain) :]
    raise ValueError(f"tokenizer {type(tokenizer).__name__} changes a text where it adds special tokens")


def _stripped(row: list[int], before: list[int], behind: list[int]) -> list[int]:
    """A row without its surroundings, and without any further start at its beginning."""
    text = row[len(before) : len(row) - len(behind)]
    while before and text[: len(before)] == before:
        text = text[len(before) :]
    return text


def common(first: list[int], second: list[int]) -> int:
    """Length of the common beginning."""
    pairs = zip(first, second, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(first), len(second)))


def shortened(ids: list[int], room: int) -> list[int]:
    """At most ``room`` ids: those in the middle are left out, so that instruction and cue stay."""
    if len(ids) <= room:
        return ids
    behind = room - room // 2
    return ids[: room // 2] + ids[len(ids) - behind :]


def joined(prompt: list[int], whole: list[int], end: int, limit: int, cut: str) -> Tokens:
    """Prompt and response, tokenised as one text (``whole``), with the ``end`` token, in at most ``limit`` tokens.

    Where a token spans both it counts as response. ``cut`` says what gives way: response, or prompt (which only helps
    where the response fits at all).
    """
    start = common(prompt, whole)
    if len(whole) > start and whole[-1] == end:  # the response's text says it too
        whole = whole[:-1]
    response, needed = [*whole[start:], end], len(whole) + 1
    if cut == "prompt" and len(response) < limit < start + len(response):
        kept = shortened(whole[:start], limit - len(response))
        return Tokens([*kept, *response], len(kept), limit - 1, needed)
    return Tokens([*whole, end][:limit], start, min(len(whole), limit), needed, cut_response=needed > limit)
