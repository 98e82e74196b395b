r"""String equivalence of MATH answers (Hendrycks et al. 2021), the rule of the MetaMath, PiSSA and CorDA scripts.

Written from the published rules, quirks included: it compares spellings, not values, so that \frac{2}{4} differs from
\frac{1}{2}; it drops every \% and only escaped dollar signs, and it knows one decimal number, 0.5.
"""

from __future__ import annotations

import re

SIMPLE_FRACTION = re.compile(r"(0|-?[1-9][0-9]*)/(0|-?[1-9][0-9]*)")
UNIT = "\\text{ "
"""a text that starts with a space is taken for a unit"""
ALIASES = (
    ("\n", ""),
    ("\\!", ""),
    ("\\\\", "\\"),
    ("tfrac", "frac"),
    ("dfrac", "frac"),
    ("\\left", ""),
    ("\\right", ""),
    ("^{\\circ}", ""),
    ("^\\circ", ""),
    ("\\$", ""),
)


def equivalent(prediction: str | None, gold: str | None) -> bool:
    """Whether two answers have one normal form; where either has none, whether they are the same text."""
    if prediction is None or gold is None:
        return prediction is None and gold is None
    forms = normal_form(prediction), normal_form(gold)
    return prediction == gold if None in forms else forms[0] == forms[1]


def normal_form(text: str) -> str | None:
    """The spelling that is compared; None where the published rules break off (two units, a bare final root)."""
    for old, new in ALIASES:
        text = text.replace(old, new)
    if text.count(UNIT) > 1:
        return None
    text = text.partition(UNIT)[0].replace("\\%", "").replace("\\%", "").replace(" .", " 0.").replace("{.", "{0.")
    if not text:
        return text
    if text[0] == ".":
        text = "0" + text
    left, equals, right = text.partition("=")
    if equals and "=" not in right and len(left) <= 2:
        text = right
    rooted = _braced_roots(text)
    fractions = None if rooted is None else _braced_fractions(rooted.replace(" ", ""))
    if fractions is None:
        return None
    text = "\\frac{1}{2}" if fractions == "0.5" else fractions
    simple = SIMPLE_FRACTION.fullmatch(text)
    return f"\\frac{{{simple[1]}}}{{{simple[2]}}}" if simple else text


def _braced_roots(text: str) -> str | None:
    """\\sqrt3 -> \\sqrt{3}; None for a root of nothing."""
    first, *roots = text.split("\\sqrt")
    if "" in roots:
        return None
    return first + "".join("\\sqrt" + (r if r[0] == "{" else f"{{{r[0]}}}{r[1:]}") for r in roots)


def _braced_fractions(text: str) -> str | None:
    """\\frac12 -> \\frac{1}{2}, \\frac1{72} -> \\frac{1}{72}; unchanged if half of one is missing, None if all is."""
    result, *rest = text.split("\\frac")
    for part in rest:
        if not part:
            return None
        if part[0] != "{" and len(part) < 2:
            return text
        if part[0] == "{":
            result += "\\frac" + part
        elif part[1] == "{":
            result += f"\\frac{{{part[0]}}}{part[1:]}"
        else:
            result += f"\\frac{{{part[0]}}}{{{part[1]}}}{part[2:]}"
    return result
