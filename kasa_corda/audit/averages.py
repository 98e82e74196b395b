"""Averages over tasks, recomputed; and best epochs against last ones."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

from .finding import Finding, name_of
from .reading import Reading, is_mean, is_number
from .sets import short

if TYPE_CHECKING:
    from ..paper.published import Cell

CHECK = "average recomputed"
EPOCHS = "best against last epoch"


def check_averages(readings: Sequence[Reading], unknown: Collection[tuple[str, ...]] = ()) -> Iterator[Finding]:
    """Printed averages that the scores printed beside them don't give.

    ``unknown``: places (``gaps``) that hold a score whose number is not known; they are left out.
    """
    rows: dict[tuple[str, ...], list[Reading]] = defaultdict(list)
    for reading in readings:
        rows[reading.row].append(reading)
    for row in rows.values():
        for mean in (r for r in row if is_mean(r.cell)):
            if mean.place not in unknown and (inputs := inputs_of(mean, row)):
                yield from _recomputed(mean, inputs)


def gaps(cells: Iterable[Cell]) -> set[tuple[str, ...]]:
    """Places (``Reading.place``) of which a score is missing: their average can't be recomputed."""
    return {
        (cell.paper, cell.kind, cell.table, cell.model, cell.method, cell.setting, cell.where)
        for cell in cells
        if not is_number(cell.value) and not is_mean(cell)
    }


def inputs_of(mean: Reading, row: Sequence[Reading]) -> list[Reading]:
    """The scores an average is of, one for each task; empty if that is not clear."""
    scores = [r for r in row if not is_mean(r.cell) and r.place == mean.place]
    named = _tasks_named(mean.cell.task, scores)
    chosen = usual_metric([r for r in scores if not named or short(r.cell.task) in named])
    if len(chosen) < 2 or ((count := _count_named(mean.cell.task)) is not None and count != len(chosen)):
        return []
    return chosen


def usual_metric(scores: Sequence[Reading]) -> list[Reading]:
    """One score of each task, by the task's usual metric; nothing if a task has two of them."""
    tasks: dict[str, list[Reading]] = defaultdict(list)
    for reading in scores:
        tasks[short(reading.cell.task)].append(reading)
    chosen = []
    for members in tasks.values():
        if len(members) > 1 and members[0].set:
            order = members[0].set.metrics
            best = min(order.index(r.kind) if r.kind in order else len(order) for r in members)
            members = [r for r in members if (order.index(r.kind) if r.kind in order else len(order)) == best]
        if len(members) != 1:
            return []
        chosen += members
    return chosen


def _recomputed(mean: Reading, inputs: Sequence[Reading]) -> Iterator[Finding]:
    unit = mean.printed.unit
    # inputs that are no shares (a judge's points) are averaged as printed
    low, high = (
        sum((getattr(r.printed, end) * r.printed.unit for r in inputs), Fraction(0)) / len(inputs) / unit
        for end in ("low", "high")
    )
    exact = sum((r.printed.value * r.printed.unit for r in inputs), Fraction(0)) / len(inputs) / unit
    if high < mean.printed.low or low > mean.printed.high:
        listed = " + ".join(r.printed.text for r in inputs)
        sentence = (
            f"{name_of(mean.cell)} = {mean.printed.text}, but the scores printed beside it give ({listed}) / "
            f"{len(inputs)} = {mean.printed.shown(exact)}; with their rounding {float(low * unit):.4f} to "
            f"{float(high * unit):.4f}."
        )
        yield Finding("inconsistent", CHECK, (mean.cell, *(r.cell for r in inputs)), sentence)


def check_epochs(readings: Sequence[Reading], impossible: Sequence[Finding] = ()) -> Iterator[Finding]:
    """Where scores of the best and of the last epoch are printed: the gap, and averages made of bests."""
    rows: dict[tuple[str, ...], list[Reading]] = defaultdict(list)
    for reading in readings:
        if reading.role and not is_mean(reading.cell):
            rows[reading.row].append(reading)
    wrong = {id(cell) for finding in impossible if finding.severity == "impossible" for cell in finding.cells}
    for row in rows.values():
        bests, lasts = (
            {short(r.cell.task): r for r in usual_metric([x for x in row if x.role == role])}
            for role in ("best", "last")
        )
        pairs = [(best, lasts[task]) for task, best in bests.items() if task in lasts]
        if not pairs:
            continue
        yield _gap(pairs)
        if len(pairs) >= 2:
            yield from _built_from(pairs, readings, wrong)


def _gap(pairs: Sequence[tuple[Reading, Reading]]) -> Finding:
    cell = pairs[0][0].cell
    gaps = {best.cell.task: _percent(best) - _percent(last) for best, last in pairs}
    listed = ", ".join(f"{task} {float(gap):.2f}" for task, gap in gaps.items())
    sentence = (
        f"{cell.paper}, {cell.table}: {cell.method} on {cell.model}: the best epoch, chosen on the data it is scored "
        f"on, is above the last by {listed} points"
    )
    if len(pairs) > 1:
        best, last = _means(pairs)
        mean = sum(gaps.values(), Fraction(0)) / len(gaps)
        sentence += f" (mean {float(mean):.2f}; averages {float(best):.2f} and {float(last):.2f})"
    return Finding("notice", EPOCHS, tuple(r.cell for pair in pairs for r in pair), sentence + ".")


def _built_from(
    pairs: Sequence[tuple[Reading, Reading]], readings: Sequence[Reading], wrong: set[int]
) -> Iterator[Finding]:
    """Averages printed elsewhere by the same paper for this model and method, told by which epochs give them."""
    cell = pairs[0][0].cell
    best, last = _means(pairs)
    for mean in readings:
        other = mean.cell
        same = (other.paper, short(other.model), short(other.method)) == (
            cell.paper,
            short(cell.model),
            short(cell.method),
        )
        if not is_mean(other) or not same or (other.setting and not mean.role):
            continue
        inside = [name for name, value in (("best", best), ("last", last)) if _prints(mean, value)]
        if inside == ["best"]:
            flawed = sum(id(b.cell) in wrong for b, _ in pairs)
            sentence = (
                f"{name_of(other)} = {mean.printed.text} is the mean of the best epochs of single runs in {cell.table} "
                f"({float(best):.2f}), not of the last ones ({float(last):.2f})"
            )
            if flawed:
                sentence += f"; of the {len(pairs)} scores in it {flawed} can't be"
            yield Finding("notice", EPOCHS, (other, *(b.cell for b, _ in pairs)), sentence + ".")


def _prints(mean: Reading, percent: Fraction) -> bool:
    """Whether an average could have been printed so; its inputs may have been rounded to its own decimals first."""
    slack = Fraction(1, 2 * 10 ** len(mean.printed.text.partition(".")[2]))
    return mean.printed.low * 100 - slack <= percent <= mean.printed.high * 100 + slack


def _means(pairs: Sequence[tuple[Reading, Reading]]) -> tuple[Fraction, Fraction]:
    best, last = (sum((_percent(pair[side]) for pair in pairs), Fraction(0)) / len(pairs) for side in (0, 1))
    return best, last


def _percent(reading: Reading) -> Fraction:
    return reading.printed.value * 100


def _tasks_named(task: str, scores: Sequence[Reading]) -> set[str]:
    """Tasks of the row that the average's name lists, as in 'average of nq_open, gsm8k, math'."""
    words = {short(word) for word in re.split(r"[,+;&]|\band\b|\bof\b|:", task.lower())}
    named = {short(r.cell.task) for r in scores} & words
    return named if len(named) > 1 else set()


def _count_named(task: str) -> int | None:
    """How many tasks the average's name says, as in 'avg of 6' or '(6 tasks)'."""
    match = re.search(r"\bof (\d+)\b|\b(\d+) tasks\b", task.lower())
    return int(match.group(1) or match.group(2)) if match else None
