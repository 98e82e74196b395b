"""The words that METEOR compares: treebank words taken apart once more (METEOR 1.5's -norm, punctuation kept)."""

from __future__ import annotations

import re
from functools import lru_cache

from .tokenise import treebank

_ALPHA = "A-Za-zŠŽšžŸÀ-ÖØ-öø-žЀ-ӿԀ-ԧꙀ-ꙮ꙾-ꚗᴀ-ᵿ"
RULES = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (rf"([^0-9{_ALPHA}\s.'`,\-\u2018\u2019])", r" \1 "),
        (r"(?<!\d),|,(?!\d)", " , "),
        (r"[`\u2018\u2019]", "'"),
        (r"[\u201c\u201d]|''", ' " '),
        (r"\u2013|--", "-"),
        (rf"([0-9{_ALPHA}.])-([0-9{_ALPHA}])", r"\1 \2"),
        (rf"([^{_ALPHA}])'([^{_ALPHA}])", r"\1 ' \2"),
        (rf"([^{_ALPHA}0-9])'([{_ALPHA}])", r"\1 ' \2"),
        (rf"([{_ALPHA}])'([^{_ALPHA}])", r"\1 ' \2"),
        (rf"([{_ALPHA}])'([{_ALPHA}])", r"\1 '\2"),
        (r"([0-9])'(s)", r"\1 '\2"),
    )
)
ALWAYS_DOTTED = frozenset(["v", "vs", "rev"])
LETTER = re.compile(rf"[{_ALPHA}]")


@lru_cache(maxsize=1 << 16)
def meteor_words(text: str) -> tuple[str, ...]:
    """Lower-case words: hyphens and contractions split, U.S. as us, other final dots split off."""
    line = f" {' '.join(treebank(text))} "
    for pattern, replacement in RULES:
        line = pattern.sub(replacement, line)
    parts = line.split()
    words: list[str] = []
    for part, after in zip(parts, [*parts[1:], ""][: len(parts)], strict=True):
        stem = part[:-1]
        if not stem or part[-1] != ".":
            words.append(part)
        elif "." in stem and LETTER.search(stem):
            words.append(part.replace(".", ""))
        elif stem in ALWAYS_DOTTED or after[:1].islower():
            words.append(part)
        else:
            words += [stem, "."]
    return tuple(words)
