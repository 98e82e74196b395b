"""What METEOR knows of English: function words, stems and, from its own published data, synonyms and paraphrases."""

from __future__ import annotations

import gzip
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from ...errors import DataError

PACKAGE = "pycocoevalcap"
"""pinned package that carries METEOR 1.5's data, byte for byte the files of the official e2e-metrics"""
JAR, TABLE = "meteor-1.5.jar", "paraphrase-en.gz"

_CLOSED_CLASS = """
the a an this that of to in for on with at by from as into about after over up out and or if but so not no i he she it
we you they his her its their who which what when where is was are were be been has have had do does did will would can
could there than more all one some also 's 't ( ) -lrb- -rrb- , . : " ' - $ ?
"""
CLOSED_CLASS = frozenset(_CLOSED_CLASS.split())
"""function words where METEOR's own list is not at hand"""

_NOUNS, _VERBS = "s: ses:s xes:x zes:z ches:ch shes:sh men:man ies:y", "s: ies:y es:e es: ed:e ed: ing:e ing:"
_ADJECTIVES = "er: est: er:e est:e"
SUFFIXES = tuple(rule.split(":") for rules in (_NOUNS, _VERBS, _ADJECTIVES) for rule in rules.split())
"""endings and what replaces them, in WordNet's order"""

Phrase = tuple[str, ...]


@dataclass(frozen=True)
class Resources:
    """Word knowledge; without synonyms and paraphrases METEOR matches words and stems only."""

    function_words: frozenset[str] = CLOSED_CLASS
    synsets: dict[str, frozenset[str]] = field(default_factory=dict)
    """word -> numbers of the sets of synonyms that it belongs to"""
    bases: dict[str, list[str]] = field(default_factory=dict)
    """irregular form -> base forms"""
    table: Path | None = None
    """the paraphrase table"""
    _found: dict[str, frozenset[str]] = field(default_factory=dict, repr=False, compare=False)

    def meanings(self, word: str) -> frozenset[str]:
        """Sets of synonyms of a word, as it stands and of its base form."""
        if word not in self._found:
            bases = self.bases.get(word) or [self._base(word)]
            self._found[word] = frozenset().union(*(self.synsets.get(one, ()) for one in (word, *bases)))
        return self._found[word]

    def _base(self, word: str) -> str:
        """The first base form that the synonyms know; itself or empty if there is none."""
        if word.endswith("ss") or len(word) <= 2:
            return word
        forms = (word[: -len(end)] + instead for end, instead in SUFFIXES if word.endswith(end))
        return next((form for form in forms if form in self.synsets), "")

    def paraphrases(self, texts: Iterable[Sequence[str]]) -> dict[Phrase, list[Phrase]]:
        """Phrase -> phrases that may stand for it, among all that occur in the texts."""
        if self.table is None:
            return {}
        occurring = {b" ".join(w.encode() for w in words[i:j]) for words in texts for i, j in _spans(len(words))}
        found: dict[Phrase, list[Phrase]] = {}
        with gzip.open(self.table, "rb") as lines:
            for _, first, second in zip(lines, lines, lines, strict=False):
                if first[:-1] in occurring and second[:-1] in occurring:
                    phrase, other = (tuple(line.decode().split()) for line in (first, second))
                    found.setdefault(phrase, []).append(other)
        return found


LONGEST = 7
"""words of the longest phrase in METEOR's English table"""


def _spans(count: int) -> list[tuple[int, int]]:
    return [(i, j) for i in range(count) for j in range(i + 1, min(i + LONGEST, count) + 1)]


def published() -> Resources:
    """METEOR 1.5's word lists, synonyms and paraphrases, fetched on first use (104 MB); DataError if they can't be."""
    from ...models.packages import ensure_package

    return read_resources(ensure_package(PACKAGE))


@lru_cache(maxsize=1)
def read_resources(folder: Path) -> Resources:
    """Resources from a folder with METEOR's program archive and paraphrase table (both are only read, never run)."""
    try:
        with zipfile.ZipFile(folder / JAR) as archive:
            words = archive.read("function/english.words").decode().split("\n")
            exceptions = archive.read("synonym/english.exceptions").decode().split("\n")
            sets = archive.read("synonym/english.synsets").decode().split("\n")
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"{folder / JAR} does not hold METEOR's word lists ({error})") from None
    bases: dict[str, list[str]] = {}
    for base, forms in zip(exceptions[::2], exceptions[1::2], strict=False):
        for form in forms.split():
            bases.setdefault(form, []).append(base)
    synsets = {word: frozenset(numbers.split()) for word, numbers in zip(sets[::2], sets[1::2], strict=False)}
    return Resources(frozenset(filter(None, words)), synsets, bases, folder / TABLE)


@lru_cache(maxsize=1 << 16)
def stem(word: str) -> str:
    """Snowball's English stem."""
    return str(_stemmer().stem(word))


@lru_cache(maxsize=1)
def _stemmer():  # type: ignore[no-untyped-def]
    from nltk.stem.snowball import SnowballStemmer

    return SnowballStemmer("english")
