"""METEOR's word alignment: of all candidate matches, the set that covers most, in the fewest and straightest chunks.

The search is METEOR 1.5's, with its beam and its rounding (a match of one word that is not exact earns nothing while
searching) and its way to count distance, because other ties would be broken otherwise and give other scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import NamedTuple

BEAM = 40
NONE = -1


class Match(NamedTuple):
    """Words of the reference that words of the prediction can stand for."""

    start: int
    """first word in the reference"""
    length: int
    at: int
    """first word in the prediction"""
    span: int
    """words of the prediction"""
    stage: int
    """0 exact, 1 stem, 2 synonym, 3 paraphrase"""

    ours: int
    """positions in the prediction, as bits"""
    theirs: int
    """positions in the reference, as bits"""


def matched(start: int, length: int, at: int, span: int, stage: int) -> Match:
    """The match of some words."""
    return Match(start, length, at, span, stage, (1 << span) - 1 << at, (1 << length) - 1 << start)


class Path(NamedTuple):
    """A partial alignment; the first three fields are compared, lower is better."""

    loss: int
    """minus the credits"""
    chunks: int
    distance: int
    next: int
    """reference position behind the last match"""
    end: int
    """prediction position behind the last match, NONE after a gap"""
    ours: int
    """used positions, as bits"""
    theirs: int
    chosen: tuple[Match, ...]


RANK = itemgetter(0, 1, 2)


def align(candidates: Sequence[Sequence[Match]]) -> tuple[list[Match], int]:
    """The chosen matches, by reference position, and their number of chunks. ``candidates``: by reference position."""
    fixed = _undisputed(candidates)
    ours = theirs = 0
    for match in fixed.values():
        ours, theirs = ours | match.ours, theirs | match.theirs
    paths = [Path(0, 0, 0, 0, NONE, ours, theirs, ())]
    for position, options in enumerate(candidates):
        following: list[Path] = []
        for path in sorted(paths, key=RANK)[:BEAM]:
            if not path.theirs >> position & 1:
                _branch(path, options, following)
            elif position < path.next:
                following.append(path)
            elif path.next in fixed:
                match = fixed[path.next]
                following.append(_taken(path, match, path.distance + abs(match.start - match.at)))
        paths = following or paths[:1]
    closed = [path._replace(chunks=path.chunks + (path.end != NONE)) for path in sorted(paths, key=RANK)[:BEAM]]
    best = min(closed, key=RANK)
    return list(best.chosen), best.chunks


def _undisputed(candidates: Sequence[Sequence[Match]]) -> dict[int, Match]:
    """Matches by start that compete with no other one: they are part of every alignment."""
    everything = [match for options in candidates for match in options]
    once_ours = once_theirs = ours = theirs = 0
    for match in everything:
        once_ours, ours = (once_ours | match.ours) & ~(ours & match.ours), ours | match.ours
        once_theirs, theirs = (once_theirs | match.theirs) & ~(theirs & match.theirs), theirs | match.theirs
    return {
        match.start: match
        for match in everything
        if match.ours & once_ours == match.ours and match.theirs & once_theirs == match.theirs
    }


def _branch(path: Path, options: Sequence[Match], following: list[Path]) -> None:
    """Every way on from a free reference word: each usable match, or none."""
    distance = path.distance
    for match in options:
        if path.ours & match.ours or path.theirs & match.theirs:
            continue
        following.append(_taken(path, match, distance))
        distance += abs(match.start - match.at)
    chunks = path.chunks + (path.end != NONE)
    skipped = Path(path.loss, chunks, distance, path.next + 1, NONE, path.ours, path.theirs, path.chosen)
    following.append(skipped)


def _taken(path: Path, match: Match, distance: int) -> Path:
    """The path with one more match."""
    credit = match.span + match.length if match.stage == 0 else match.span // 2 + match.length // 2
    return Path(
        path.loss - credit,
        path.chunks + (path.end not in (NONE, match.at)),
        distance,
        match.start + match.length,
        match.at + match.span,
        path.ours | match.ours,
        path.theirs | match.theirs,
        (*path.chosen, match),
    )
