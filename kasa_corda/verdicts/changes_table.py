"""``scripts/compare.py``'s table: on the terminal, as CSV and as Markdown."""

from __future__ import annotations

import csv
import io
from collections import Counter
from pathlib import Path
from typing import TextIO

from ..escaping import csv_cell, markdown_text
from ..report import format
from ..store import write_atomically
from .changes import CHANGED, IDENTICAL, UNKNOWN, Change, Comparison

TITLES = ("cell", "A", "B", "B - A", "seeds", "test", "p", "time", "memory", "state")
SHORT = ("A", "B", "B - A", "seeds", "p", "time", "memory")
"""what fits a terminal"""
LISTED = 10


def show(found: Comparison, file: TextIO | None = None) -> None:
    """A block per task and model, then the summary; identical cells are only counted."""
    from itertools import groupby

    from rich.text import Text

    from ..report.console import STATE_STYLES, _line, _new_table, _show, _text, make_console

    console = make_console(file)
    table = _new_table(console)
    table.add_column("method", overflow="fold")
    for title in SHORT:
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("state", no_wrap=True)
    rows = [change for change in found.changes if change.state != IDENTICAL]
    for (task, model), block in groupby(sorted(rows, key=_place), key=lambda change: (change.task, change.model)):
        table.add_row(_text(f"{task} {model}", console))
        for change in block:
            cells = dict(zip(TITLES, _cells(change), strict=True))
            name = f"  {change.method} {change.setting}".rstrip()
            cells["B - A"] = format.percent(change.difference, True, metric=change.metric)
            style = STATE_STYLES["failed"] if change.state == CHANGED else ""
            shown = [_text(cells[title], console) for title in SHORT]
            table.add_row(_text(name, console), *shown, Text(change.state, style=style))
    if rows:
        _show(console, table)
    for line in summary(found):
        _line(console, line)


def _place(change: Change) -> tuple[str, ...]:
    return (change.task, change.model, change.method, change.setting)


def summary(found: Comparison) -> list[str]:
    """'12 cells in both: 1 changed, ...', then what stands in one set alone."""
    counts = Counter(change.state for change in found.changes)
    states = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
    lines = [f"{len(found.changes)} cells in both: {states}"]
    for change in _ordered(found):
        if change.notes or (change.state == UNKNOWN and change.test):
            why = [change.test] if change.state == UNKNOWN else []
            lines.append(f"{change.cell}: {', '.join([*why, *change.notes])}")
    for name, alone in (("A", found.only_a), ("B", found.only_b)):
        if alone:
            more = f", and {len(alone) - LISTED} more" if len(alone) > LISTED else ""
            lines.append(f"{len(alone)} cells in {name} alone: {'; '.join(alone[:LISTED])}{more}")
    return lines


def write(found: Comparison, path: Path) -> None:
    write_atomically(path, WRITERS[path.suffix](found))


def _markdown(found: Comparison) -> str:
    rows = [TITLES, ["---"] * len(TITLES), *(_cells(change) for change in _ordered(found))]
    lines = ["| " + " | ".join(map(markdown_text, row)) + " |" for row in rows]
    return "\n".join([*lines, "", *(f"- {markdown_text(line)}" for line in summary(found))]) + "\n"


def _csv(found: Comparison) -> str:
    """Full precision; fractions."""
    names = (
        "task", "model", "method", "setting", "metric", "a", "b", "difference", "low", "high", "p", "p_holm", "state",
        "test", "seconds_ratio", "memory_ratio",
    )  # fmt: skip
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*names, "seeds_a", "seeds_b", "notes"])
    for change in _ordered(found):
        cells = [*(getattr(change, name) for name in names), *change.seeds, "; ".join(change.notes)]
        writer.writerow(map(csv_cell, cells))
    return text.getvalue()


WRITERS = {".csv": _csv, ".md": _markdown}


def _ordered(found: Comparison) -> list[Change]:
    order = {CHANGED: 0, UNKNOWN: 1}
    return sorted(found.changes, key=lambda change: (order.get(change.state, 2), change.cell))


def _cells(change: Change) -> list[str]:
    metric = change.metric
    difference = format.percent(change.difference, True, metric=metric)
    if change.low is not None and change.high is not None:
        low, high = (format.percent(value, True, metric=metric) for value in (change.low, change.high))
        difference += f" [{low}, {high}]"
    ratios = [format.NOTHING if r is None else f"x{r:.2f}" for r in (change.seconds_ratio, change.memory_ratio)]
    notes = f" ({', '.join(change.notes)})" if change.notes else ""
    return [
        change.cell,
        format.percent(change.a, metric=metric),
        format.percent(change.b, metric=metric),
        difference,
        str(change.seeds[0]) if change.seeds[0] == change.seeds[1] else f"{change.seeds[0]}/{change.seeds[1]}",
        change.test,
        format.p_value(change.p_holm),
        *ratios,
        change.state + notes,
    ]
