"""The two tokenisations of the official e2e-metrics: mteval-v13a's (BLEU, NIST), Penn Treebank's (the caption metrics).

The first follows the published rules to the letter. The second is Stanford CoreNLP 3.4.1's ``PTBTokenizer -lowerCase``
with punctuation left out afterwards, as the COCO caption scripts use it, restated as a short grammar. It gives the same
words for every reference of E2E's development and test set; rare matter (addresses, odd abbreviations) may differ.
"""

from __future__ import annotations

import re
from functools import lru_cache

ENTITIES = (("&quot;", '"'), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">"))
CAPITALS = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz")
MTEVAL_RULES = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"([{-~\[-` -&(-+:-@/])", r" \1 "),
        (r"([^0-9])([.,])", r"\1 \2 "),
        (r"([.,])([^0-9])", r" \1 \2"),
        (r"([0-9])(-)", r"\1 \2 "),
    )
)

PUNCTUATION = frozenset(["''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"])
"""tokens that the caption metrics leave out; brackets stay, because the script looks for -LRB- after lower-casing"""
RENAMED = {
    **{"£": "#", "€": "$", "½": "1/2", "¼": "1/4", "¾": "3/4", "(": "-lrb-", ")": "-rrb-"},
    **{"[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"},
}
QUOTES = str.maketrans({"“": '"', "”": '"', "\u2018": "'", "\u2019": "'", "\u00a0": " "})
SPLIT_WORDS = {
    word.replace(" ", ""): word.split()
    for word in ("can not", "gon na", "wan na", "got ta", "gim me", "lem me", "'t is", "'t was", "d' ye", "more 'n")
}

_ABBREVIATIONS = (
    "mr mrs ms dr st prof rev gen capt lt sgt col gov hon rep sen mt dept univ assn bros vs e.g i.e al cf ave etc inc "
    "co corp ltd rd blvd jr sr jan feb mar apr jun jul aug sept sep oct nov dec mon tue tues wed thu thurs fri"
)
_STARTERS = "A|An|And|As|At|But|He|I|If|In|It|On|One|She|So|That|The|Then|There|They|This|We|What|When|You"
_LETTER = r"[^\W\d_]"
_PART = rf"(?:[dols]'(?={_LETTER}{{2}}))?[^\W_]+(?:_[^\W_]+)*"
_WORD = rf"{_PART}(?:-{_PART})*(?:/{_PART}(?:-{_PART})*){{0,2}}"
GRAMMAR = re.compile(
    "|".join(
        (
            r"(?:https?://|www\.)[^\s\"<>|(){}]+[^\s\"<>|.!?(){},;:-]",
            r"[^\s@,;:\"'()<>]+@[^\s@,;:\"'()<>]+\.[a-z]+",
            r"[@#][a-z_]\w*",
            r"</?[a-z][^\s<>]*>",
            r"\.{3,}|…|\. \. \.",
            rf"(?:{'|'.join(map(re.escape, _ABBREVIATIONS.split()))})\.(?!\w)",
            rf"(?<![^\W_])(?:{_LETTER}\.)+{_LETTER}(?!\w)\.?",
            rf"(?-i:(?<!\w)[A-Z])\.(?!\s+(?-i:{_STARTERS})\b)(?=\s+\S)",
            rf"\d+/(?:\d+/\d+(?!\w)|{_WORD})",
            r"'\d\ds?(?!\w)",
            r"(?:\+|(?<![\w)])-|-(?=\.\d))?(?:\d+(?:[.,:]\d+)*|\.\d+)(?:-\d+(?:[.,:]\d+)*)*(?![\w-]|[.,:]\d)(?:\.(?=[,;:]))?",
            r"(?:\+|(?<![\w)])-)?\d+(?:[.,:]\d+)+(?=[a-z])",
            r"[a-z](?:&[a-z])+(?![a-z])|[a-z]{1,2}&[a-z](?![a-z])",
            rf"{_LETTER}+(?=n't(?!\w))",
            r"n't(?!\w)|'(?:s|m|d|re|ve|ll)(?!\w)",
            rf"{_WORD}(?:\.(?={_LETTER}){_WORD})*(?:\.(?=[,;:]))?",
            r"\.\d+",
            r"-{2,}|[\u2013\u2014]",
            r"[!?]+",
            r"\*+",
            r"[^\s\w\U00010000-\U0010ffff]|_+",  # what the tokeniser has no rule for, it drops
        )
    ),
    re.IGNORECASE,
)
DASHES = re.compile(r"-{2,}|[\u2013\u2014]")
DOTS = re.compile(r"\.{3,}|…|\. \. \.")


@lru_cache(maxsize=1 << 16)
def mteval(text: str) -> tuple[str, ...]:
    """Words as mteval-v13a reads them: ASCII lower-cased, punctuation split off except within numbers."""
    text = " ".join(text.split()).replace("<skipped>", "")
    for entity, character in ENTITIES:
        text = text.replace(entity, character)
    text = f" {text} ".translate(CAPITALS)
    for pattern, replacement in MTEVAL_RULES:
        text = pattern.sub(replacement, text)
    return tuple(text.split())


@lru_cache(maxsize=1 << 16)
def treebank(text: str) -> tuple[str, ...]:
    """Lower-cased Penn Treebank words without punctuation, as the caption metrics count them."""
    text = " ".join(text.translate(QUOTES).split())
    for entity, character in ENTITIES:
        text = text.replace(entity, character)
    words: list[str] = []
    for found in GRAMMAR.finditer(text):
        token = found[0].lower()
        token = "--" if DASHES.fullmatch(token) else "..." if DOTS.fullmatch(token) else RENAMED.get(token, token)
        words += SPLIT_WORDS.get(token, [token])
    return tuple(word for word in words if word not in PUNCTUATION and word != '"')
