r"""One spelling for many: LaTeX spacing, text commands, thousands, Unicode signs; and splitting at the top level."""

from __future__ import annotations

import re
from collections.abc import Iterator

ROW = "\N{PILCROW SIGN}"
"""stands for the row break of a matrix"""
OPENING, CLOSING = "([{⟦⟨", ")]}⟧⟩"
"""⟦⟧ stand for \\{ and \\}, ⟨⟩ for \\langle and \\rangle"""
BROKEN_ROW = re.compile(r"\\(?=[-\d])")
"""a row break as Hendrycks' normaliser leaves it, which some copies of MATH store"""
DAMAGES = ((re.compile(r"\\sqrt\{\}\s*(\w)"), r"\\sqrt{\1}"), (re.compile(r"\\frac\{\\\}\{p\}i"), r"\\frac\\pi "))
"""what that normaliser makes of \\sqrt 5 and \\frac \\pi 4"""
TEXT = re.compile(
    r"\\(?:text|textbf|textit|textrm|textnormal|mbox|mathrm|mathbf|mathit|operatorname|bf|rm)\s*\{([^{}]*)\}"
)
SPACING = re.compile(r"\\(?:quad|qquad|displaystyle|textstyle|limits)(?![a-zA-Z])|\\[,;: ]|~|\s+")
DROPPED = re.compile(
    r"\\[!$]|\\(?:left|right|bigl?|bigr?|Bigl?|Bigr?|Large|large)(?![a-zA-Z])"
    r"|\^\s*(?:\\circ|\{\s*\\circ\s*\})(?![a-zA-Z])|\\degree(?![a-zA-Z])|[$°]"
)
THOUSANDS = re.compile(r"(?<=\d)(?:,\\!|\{,\}|\\,|\\!,|,\\ )(?=\d{3}(?!\d))", re.A)
SPACED = re.compile(r"\d{1,3}(?: \d{3})+", re.A)
MIXED = re.compile(r"(?<![\d.^/])(\d+)\s+(\d+)/(\d+)(?![\d.])", re.A)
REPEATING = re.compile(r"(\d{0,20})\.(\d{0,20})\\(?:overline|bar)\s*\{\s*(\d{1,20})\s*\}", re.A)
SCIENTIFIC = re.compile(r"(?<![a-zA-Z\d.])(\d+(?:\.\d+)?)[eE]([-+]?\d+)(?![a-zA-Z\d.])", re.A)
FRACTION = re.compile(r"\\[dtc]frac(?![a-zA-Z])")
NUMERAL = re.compile(
    r"[-+]?\s?\$?(?:\d+\s*)?\\[dtc]?frac\s*(?:\{\s*-?\d+\s*\}|\d)\s*(?:\{\s*-?\d+\s*\}|\d)"
    r"|[-+]?\s?\$?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?(?:/\d+)?|[-+]?\.\d+",
    re.A,
)
"""a number in running text: -1,234.5, 3/4, 1\\frac{1}{2}"""
SPELLINGS = {
    "\\\\": ROW,
    "\\cr": ROW,
    "\\{": "⟦",
    "\\}": "⟧",
    "\\lbrace": "⟦",
    "\\rbrace": "⟧",
    "\\langle": "⟨",
    "\\rangle": "⟩",
    "\\lvert": "|",
    "\\rvert": "|",
    "\\leqslant": "≤",
    "\\geqslant": "≥",
    "\\leq": "≤",
    "\\geq": "≥",
    "\\le": "≤",
    "\\ge": "≥",
    "<=": "≤",
    ">=": "≥",
    "\\lt": "<",
    "\\gt": ">",
    "\\neq": "≠",
    "\\ne": "≠",
    "\\approx": "≈",
    "\\cup": "\N{UNION}",
    "\\in": "∈",
    "\\pm": "±",
    "\\%": "%",
    "**": "^",
    "\N{MINUS SIGN}": "-",
    "\N{EN DASH}": "-",
    "\N{MULTIPLICATION SIGN}": "*",
    "·": "*",
    "÷": "/",
    "π": "\\pi ",
    "√": "\\sqrt",
    "∞": "\\infty ",
    "θ": "\\theta ",
    "²": "^2",
    "³": "^3",
    "½": " 1/2",
    "¼": " 1/4",
    "¾": " 3/4",
}
SPELLING = re.compile(
    "|".join(re.escape(k) + ("(?![a-zA-Z])" if k[-1].isalpha() and k[0] == "\\" else "") for k in SPELLINGS)
)


def cleaned(text: str) -> str:
    """One line in one spelling: no dollar and degree signs, no spacing commands, plain words for \\text{...}."""
    text = THOUSANDS.sub("", text)
    for damage, repair in DAMAGES:
        text = damage.sub(repair, text)
    text = SPELLING.sub(lambda found: SPELLINGS[found[0]], text)
    text = FRACTION.sub(r"\\frac", text)
    for _ in range(3):
        text = TEXT.sub(r" \1 ", text)
    text = DROPPED.sub("", text)
    text = SPACING.sub(" ", text)
    text = REPEATING.sub(_repeating, text)
    text = SCIENTIFIC.sub(r"(\1*10^{\2})", text)
    text = MIXED.sub(r"(\1+\2/\3)", text)
    if "\\begin" not in text:
        text = BROKEN_ROW.sub("", text)
    text = text.lstrip(" ,;:").rstrip(" .,;:")
    return text.replace(" ", "") if SPACED.fullmatch(text) else text


def _repeating(found: re.Match[str]) -> str:
    """0.1\\overline{6} as the fraction (15/90)."""
    whole, fixed, period = found.groups()
    below = (10 ** len(period) - 1) * 10 ** len(fixed)
    above = int(whole + fixed + period) - int(whole + fixed or "0")
    return f"({above}/{below})"


def split(text: str, separators: str) -> list[str]:
    """Parts between separators (single characters) that stand in no bracket."""
    parts, start = [], 0
    for at, depth in _depths(text):
        if depth == 0 and text[at] in separators:
            parts.append(text[start:at])
            start = at + 1
    return [part.strip() for part in (*parts, text[start:])]


def enclosed(text: str) -> bool:
    """Whether one pair of brackets spans the text (of any two kinds: half-open intervals)."""
    if len(text) < 2 or text[0] not in OPENING or text[-1] not in CLOSING:
        return False
    return all(depth > 0 for at, depth in _depths(text) if at < len(text) - 1)


def _depths(text: str) -> Iterator[tuple[int, int]]:
    """Every position with the number of brackets open behind it."""
    depth = 0
    for at, character in enumerate(text):
        depth += (character in OPENING) - (character in CLOSING)
        yield at, depth
