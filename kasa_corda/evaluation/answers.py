"""From generated text to the answer that counts, and when two answers are the same."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction

NUMBER = re.compile(
    r"(?P<sign>[-+]?)\s?\$?(?P<value>(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|\.\d+)(?:/(?P<divisor>\d+))?", re.ASCII
)
PAPER_NUMBER = re.compile(r"[-+]?\d*[.,/]?\d+", re.ASCII)
"""at most one separator: of 1,234,567 it reads 1,234 (CorDA's, and before it MetaMath's, GSM8K script)"""
ARTICLES = re.compile(r"\b(?:a|an|the)\b")
HARNESS_ARTICLES = re.compile(r"\ban|a|the\b")
"""as first written in lm-evaluation-harness' nq_open (version 0): deletes every letter a"""
HARNESS_NOTHING = re.compile(r"(?!)")
HARNESS_RULES = {
    "nq_open": HARNESS_ARTICLES,
    "nq_open_4": re.compile(r"\b(?:The |the |An |A |a |an )"),
    "triviaqa": HARNESS_NOTHING,
}
"""what lm-evaluation-harness' exact match deletes from both texts: nq_open as first written, its version 4, triviaqa"""
PUNCTUATION = str.maketrans("", "", string.punctuation)


def after_last(text: str, marker: str) -> str | None:
    """The text behind the last ``marker``; None without one."""
    _, found, after = text.rpartition(marker)
    return after if found else None


def first_number(text: str) -> Fraction | None:
    """The first number of a text, exactly: '$1,234,567.50', '-3', '.5' and '3/4' are numbers; None if there is none."""
    found = NUMBER.search(text)
    if found is None:
        return None
    try:
        value = Fraction(found["value"].replace(",", "")) / int(found["divisor"] or 1)
    except (ValueError, ZeroDivisionError):  # more digits than Python reads; divided by zero
        return None
    return -value if found["sign"] == "-" else value


def paper_number(text: str) -> Fraction | None:
    """The first number as CorDA's GSM8K script reads it: at most one separator, then rounded to an integer."""
    found = PAPER_NUMBER.search(text)
    if found is None:
        return None
    numerator, _, divisor = found[0].replace(",", "").partition("/")
    try:
        value = Fraction(numerator) / (int(divisor or 1) or 1)
    except ValueError:
        return None
    return Fraction(round(value))


def normalised(text: str, articles: str = "words") -> str:
    """A short answer without case, punctuation, articles and extra spaces.

    ``articles``: 'words' drops a, an and the as words (unless nothing else is left: the band The The);
    'letters' is HARNESS_ARTICLES.
    """
    if articles == "letters":
        return HARNESS_ARTICLES.sub("", text).lower().translate(PUNCTUATION).strip()
    bare = text.lower().translate(PUNCTUATION)
    return " ".join(ARTICLES.sub(" ", bare).split()) or " ".join(bare.split())


def same_answer(prediction: str, accepted: list[str], articles: str = "words") -> bool:
    """Whether a prediction equals any accepted answer after ``normalised``; an empty one never does."""
    ours = normalised(prediction, articles)
    return bool(ours) and any(ours == normalised(answer, articles) for answer in accepted)


def harness_match(text: str, accepted: Sequence[str], rule: str) -> bool:
    """lm-evaluation-harness' exact match under one of HARNESS_RULES, without case and punctuation.

    Only white space in front of the generated text is dropped, and texts of which nothing is left are equal.
    """

    def bare(given: str) -> str:
        return HARNESS_RULES[rule].sub("", given).lower().translate(PUNCTUATION)

    ours = bare(text.lstrip())
    return any(ours == bare(answer) for answer in accepted)


def token_f1(prediction: str, accepted: Sequence[str]) -> float:
    """Harmonic mean of precision and recall over the words of ``normalised`` texts, the best over accepted answers.

    Rajpurkar et al. 2016 (SQuAD), section 6.1.
    """
    return max((_overlap(normalised(prediction).split(), normalised(answer).split()) for answer in accepted), default=0)


def _overlap(ours: list[str], theirs: list[str]) -> float:
    shared = (Counter(ours) & Counter(theirs)).total()
    return 2 * shared / (len(ours) + len(theirs)) if shared else 0.0


def first_word(text: str, words: Sequence[str]) -> str | None:
    """Whichever of ``words`` stands first in a text, exactly as written and also inside longer words; None if none."""
    found = re.search("|".join(map(re.escape, words)), text) if words else None
    return found[0] if found else None
