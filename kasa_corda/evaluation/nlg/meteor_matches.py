"""Which words and phrases of two texts METEOR takes as the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from .meteor_alignment import Match, matched
from .meteor_resources import LONGEST, Phrase, Resources, stem

EXACT, STEM, SYNONYM, PARAPHRASE = range(4)

Words = tuple[str, ...]


class Matcher:
    """Finds all possible matches of one prediction with one reference after the other."""

    def __init__(self, ours: Words, resources: Resources, paraphrases: Mapping[Phrase, list[Phrase]]) -> None:
        self.ours = ours
        self.resources = resources
        self.paraphrases = paraphrases
        self._places: dict[str, list[tuple[int, int]]] = {}
        self._phrases = list(self._known(ours))

    def candidates(self, theirs: Words) -> list[list[Match]]:
        """Every possible match, by reference position; exact ones first, as ties are broken by this order."""
        found = [
            [matched(start, 1, at, 1, stage) for stage, at in self._alike(word)] for start, word in enumerate(theirs)
        ]
        if self.ours == theirs:  # as METEOR does: nothing but the words themselves
            return [[match for match in matches if match.stage == EXACT] for matches in found]
        for start, length, phrase in self._known(theirs):
            for at in _occurrences(phrase, self.ours):
                found[start].append(matched(start, length, at, len(phrase), PARAPHRASE))
        for at, span, phrase in self._phrases:
            for start in _occurrences(phrase, theirs):
                found[start].append(matched(start, len(phrase), at, span, PARAPHRASE))
        return found

    def _alike(self, word: str) -> list[tuple[int, int]]:
        """(stage, position) of every word of the prediction that matches a word of a reference."""
        if word not in self._places:
            pairs = ((stage, at) for at, other in enumerate(self.ours) for stage in self._stages(word, other))
            self._places[word] = sorted(pairs)
        return self._places[word]

    def _stages(self, word: str, other: str) -> Iterator[int]:
        if word == other:
            yield EXACT
            return
        if stem(word) == stem(other):
            yield STEM
        if not self.resources.meanings(word).isdisjoint(self.resources.meanings(other)):
            yield SYNONYM

    def _known(self, words: Words) -> Iterator[tuple[int, int, Phrase]]:
        """Position and length of every phrase that has a paraphrase, with that."""
        if self.paraphrases:
            for start in range(len(words)):
                for end in range(start + 1, min(start + LONGEST, len(words)) + 1):
                    for phrase in self.paraphrases.get(words[start:end], ()):
                        yield start, end - start, phrase


def _occurrences(phrase: Phrase, words: Words) -> list[int]:
    if phrase[0] not in words:
        return []
    return [at for at in range(len(words) - len(phrase) + 1) if words[at : at + len(phrase)] == phrase]
