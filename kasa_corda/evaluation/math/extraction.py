r"""Which part of a generated text is its answer: the papers' rule and the robust one.

Robust, the first that is there: behind the last marker; behind the last '####'; in the last \boxed; behind the last
'answer is' or 'answer:'; the last formula, or the last number.
"""

from __future__ import annotations

import re

from ..answers import after_last
from .notation import NUMERAL

PAPER_MARKER = "The answer is: "
"""with its space, as the scripts of MetaMath, PiSSA and CorDA split"""
HASHES = "####"
PHRASE = re.compile(r"\banswer(?:\s*(?:[:=]|is\b)|\s+(?:will|must|should)\s+be\b)\s*:?", re.IGNORECASE)
FORMULA = re.compile(r"\$\$?([^$]{1,400})\$(?!\d)|\\\(([^\\]{1,2}|.{1,400}?)\\\)|\\\[(.{1,400}?)\\\]", re.DOTALL)
BOLD = re.compile(r"\*\*|__(?=\S)|</?[a-z]{1,6}>")
SENTENCE = re.compile(
    r"(?<=\S)(?:[.?](?=\s|$)|!(?=\s+[A-Z])|[,;]?\s+(?:because|since|which|so|where|as|for|when|if)\s)|\n"
)
"""where an answer's sentence ends; not at the sign of a factorial"""
MORE = re.compile(r"\s*(?:,?\s*(?:and|or)\s+|,\s*)\$")
WORD = re.compile(r"(?<![\\a-zA-Z{])[a-zA-Z]{2,}(?:\s|$)")
REACH = 2000
"""characters behind a marker, or at the end of a text without one, in which an answer is looked for"""


def paper_answer(text: str) -> str | None:
    """MATH: what stands behind the last PAPER_MARKER up to '.\\n', without its full stop; None without a marker."""
    rest = after_last(text, PAPER_MARKER)
    return None if rest is None else rest.partition(".\n")[0].strip().removesuffix(".").strip()


def robust_answer(text: str, marker: str = PAPER_MARKER) -> str | None:
    """The answer of a text by the rules above; None if it has neither a marker nor a formula nor a number."""
    for sign in (marker.strip(), HASHES):
        rest = after_last(text, sign)
        found = rest and statement(rest)
        if found:
            return found
    boxed = last_boxed(text)
    if boxed and boxed.strip():
        return boxed.strip()
    phrases = list(PHRASE.finditer(text))
    found = statement(text[phrases[-1].end() :]) if phrases else ""
    return found or _last(text[-REACH:])


def last_boxed(text: str) -> str | None:
    r"""The content of the last \boxed{...} or \fbox{...} whose brace closes, or of '\boxed 5'; None without one."""
    at = max(text.rfind("\\boxed"), text.rfind("\\fbox") if "\\boxed" not in text else -1)
    if at < 0:
        return None
    rest = text[at:].partition("box")[2].removeprefix("ed")
    if not rest.lstrip().startswith("{"):
        return rest.partition("$")[0].strip() or None
    rest = rest.lstrip()
    depth = 0
    for position, character in enumerate(rest):
        depth += (character == "{") - (character == "}")
        if depth == 0:
            return rest[1:position]
    return None


def statement(rest: str) -> str:
    """The answer at the start of what follows a marker: a boxed one, a formula or several, else the first sentence."""
    rest = BOLD.sub("", rest[:REACH]).lstrip(" \t\r\n:=")
    first = SENTENCE.split(rest, maxsplit=1)[0]
    if "\\boxed" in first or (rest.startswith(("\\[", "$$")) and "\\boxed" in rest):
        boxed = last_boxed(rest[: rest.find("\n\n") if "\n\n" in rest else None])
        if boxed:
            return boxed.strip()
    formula = FORMULA.match(rest)
    if formula and not _money(formula):
        end = formula.end()
        while (more := MORE.match(rest, end)) and (following := FORMULA.match(rest, more.end() - 1)):
            end = following.end()
        return _inside(rest[:end])
    return first.lstrip(" \t\r*").rstrip(" \t\r*.")


def _last(text: str) -> str | None:
    """The last formula with a number in it, unless a number follows it; else the last number."""
    formulas = [f for f in FORMULA.finditer(text) if not _money(f) and any(map(str.isdigit, f[0]))]
    numbers = list(NUMERAL.finditer(text))
    if formulas and (not numbers or numbers[-1].start() < formulas[-1].end()):
        return _inside(formulas[-1][0])
    return numbers[-1][0].strip() if numbers else None


def _money(formula: re.Match[str]) -> bool:
    """Whether the dollar signs are amounts: '$5 per hour for $6' has words between them."""
    return formula[1] is not None and formula[1][:1].isdigit() and WORD.search(formula[1]) is not None


def _inside(text: str) -> str:
    """Formulas without the signs that open and close them."""
    return re.sub(r"\$|\\[\[\]()]", "", text).strip(" \t\r\n.")
