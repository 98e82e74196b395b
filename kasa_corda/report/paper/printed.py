"""Chapter: each table of the papers, with published | ours | difference under both learning rates."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ...verdicts.units import printed_factor
from . import words
from .layout import NOTHING, Cell, Chapter, Column, Fold, Grid, Heading, Sentence
from .material import RATES, Material

if TYPE_CHECKING:
    from ...paper.published import Cell as Printed
    from ...verdicts.verdict import CellResult

WIDTH = 3
"""tasks side by side; a wider table is cut into blocks"""
KINDS = {"paper": "the paper", "authors": "its authors' logs or README", "third_party": "a third party"}
RANK = tuple(KINDS)


def chapter(material: Material) -> Chapter:
    """Tables that we have runs for, then those we have none for, folded."""
    found = Chapter("tables", "The papers' tables")
    found.say(
        "Printed units, usually per cent. Every method has two rows: at the published learning rate and at the tuned"
        " one. The difference is ours minus published. '=' marks a printed number that a further run of ours could"
        " give (95 % prediction interval, its own rounding allowed for), '≠' one that it could not. Footnotes tell"
        " seeds, protocol, deviations and runs."
    )
    results = {lr: {result.cell: result for result in material.results.get(lr, [])} for lr in RATES}
    found.blocks += conflicts(material.cells, results[RATES[0]])
    tables: dict[tuple[str, str, str], list[Printed]] = defaultdict(list)
    for cell in material.cells:
        tables[cell.paper, cell.kind, cell.table].append(cell)
    order = sorted(tables, key=lambda k: (k[0], RANK.index(k[1]) if k[1] in RANK else 9, k[2]))
    ran = {cell for lr in RATES for cell, result in results[lr].items() if result.n}
    with_runs = [k for k in order if not ran.isdisjoint(tables[k])]
    for k in with_runs:
        found.blocks.append(Heading(words.slug("table", *k), _title(k)))
        found.blocks += grids(k, tables[k], results)
    rest = [k for k in order if k not in set(with_runs)]
    if rest:
        found.blocks.append(Heading("tables-published", "Tables without runs of ours"))
        found.blocks.append(Sentence(_why(material)))
    for k in rest:
        found.blocks.append(Fold(words.slug("table", *k), _title(k), tuple(grids(k, tables[k], {}))))
    return found


def _why(material: Material) -> str:
    if material.form == "pocket":
        return (
            "This is the pocket form: its runs use smaller models than the papers, so no printed number has a"
            " counterpart. What they say of the claims is above, their own scores are below."
        )
    return "None of these numbers has a finished run yet."


def _title(table: tuple[str, str, str]) -> str:
    paper, kind, name = table
    return f"{paper}: {name} (printed by {KINDS.get(kind, kind)})"


def conflicts(cells: Sequence[Printed], results: dict[Printed, CellResult]) -> list[Sentence | Fold]:
    """Numbers that several tables or sources give differently, and which of them a verdict uses."""
    sources: dict[tuple[str, ...], list[Printed]] = defaultdict(list)
    for cell in cells:
        if cell.value:
            sources[cell.paper, cell.model, cell.task, cell.metric, cell.method, cell.setting].append(cell)
    differing = {k: v for k, v in sources.items() if len({cell.number for cell in v}) > 1}
    if not differing:
        return []
    rows = []
    for (paper, model, task, metric, method, setting), several in sorted(differing.items()):
        used = [cell for cell in several if (result := results.get(cell)) is not None and result.used_for_verdict]
        rows.append(
            [
                Cell(f"{method} ({setting})" if setting else method, heading=True),
                Cell(f"{paper}: {model}, {_task(task)} ({metric})"),
                Cell("; ".join(f"{cell.value} ({cell.table}, {KINDS.get(cell.kind, cell.kind)})" for cell in several)),
                Cell("; ".join(f"{cell.value} ({cell.table})" for cell in used) or "none"),
            ]
        )
    names = [Column(name) for name in ("Method", "What", "Printed", "Used for verdicts")]
    text = (
        f"{len(rows)} numbers are printed differently in several places. All are shown, each in its own table; verdicts"
        " use one of them, which is named here."
    )
    return [
        Sentence(text),
        Fold("conflicts", "Numbers in conflict", (Grid("conflicts-all", "In conflict", names, rows),)),
    ]


def grids(
    table: tuple[str, str, str], cells: Sequence[Printed], results: dict[str, dict[Printed, CellResult]]
) -> list[Grid]:
    """One table of the paper, in blocks of a few tasks each; without ``results`` only what is printed."""
    columns = list(dict.fromkeys((cell.model, cell.task, cell.metric) for cell in cells))
    several = len({model for model, _, _ in columns}) > 1
    found = []
    blocks = [columns[start : start + WIDTH] for start in range(0, len(columns), WIDTH)]
    for number, block in enumerate(blocks, 1):
        part = f", part {number} of {len(blocks)}" if len(blocks) > 1 else ""
        found.append(
            Grid(
                words.slug("printed", *table, number),
                f"{table[2]}{part}",
                _columns(block, several, bool(results)),
                _rows(block, cells, results),
                "" if several else f"Model: {columns[0][0]}.",
            )
        )
    return [grid for grid in found if grid.rows]


def _columns(block: Sequence[tuple[str, str, str]], several: bool, ours: bool) -> list[Column]:
    found = [Column("Method"), *([Column("Learning rate")] if ours else [])]
    for model, task, metric in block:
        name = f"{f'{model}, ' if several else ''}{_task(task)} ({metric})"
        found += [Column(part, name) for part in (("published", "ours", "difference") if ours else ("published",))]
    return found


def _task(task: str) -> str:
    return "mean over tasks" if task.startswith("mean:") else task


def _rows(
    block: Sequence[tuple[str, str, str]], cells: Sequence[Printed], results: dict[str, dict[Printed, CellResult]]
) -> list[list[Cell]]:
    by_row: dict[tuple[str, str], dict[tuple[str, str, str], Printed]] = defaultdict(dict)
    for cell in cells:
        place = (cell.model, cell.task, cell.metric)
        if place in block:
            by_row[cell.method, cell.setting].setdefault(place, cell)
    rows = []
    for (method, setting), found in by_row.items():
        name = Cell(f"{method} ({setting})" if setting else method, heading=True)
        for lr in RATES if results else ("",):
            row = [name, *([Cell(lr)] if results else [])]
            for place in block:
                row += _cells(found.get(place), results.get(lr) if results else None)
            rows.append(row)
    return rows


def _cells(cell: Printed | None, results: dict[Printed, CellResult] | None) -> list[Cell]:
    if cell is None:
        return [Cell(NOTHING)] * (1 if results is None else 3)
    number = cell.number
    shown = (f"{cell.value} ± {cell.std}" if cell.std else cell.value) if cell.value else "unknown"
    printed = Cell(shown, number, hint=cell.source)
    if results is None:
        return [printed]
    result = results.get(cell)
    if result is None or result.mean is None:
        return [printed, Cell("no runs", state="missing"), Cell(NOTHING)]
    decimals = max(2, cell.decimals)
    spread = f" ± {result.std:.{decimals}f}" if result.std is not None else ""
    known: dict[str, Any] = {}
    if result.metric and not cell.task.startswith("mean:"):
        times = 1 if getattr(cell, "unit", "") == "fraction" else printed_factor(result.metric)
        known = {"runs": result.run_ids, "path": f"best.test.{result.metric}", "times": times}
    shown = f"{result.mean:.{decimals}f}{spread}"
    ours = Cell(shown, result.mean, note=_note(result), hint=f"n = {result.n}", **known)
    if result.difference is None:
        return [printed, ours, Cell(NOTHING)]
    state = {True: "inside", False: "outside", None: ""}[result.inside]
    return [printed, ours, Cell(words.signed(result.difference, decimals), result.difference, state=state)]


def _note(result: CellResult) -> str:
    parts = [f"{result.cell.method} on {_task(result.cell.task)}, {result.lr} learning rate: n = {result.n}"]
    if result.low is not None and result.high is not None:
        parts.append(f"95 % interval of the mean {result.low:.2f} to {result.high:.2f}")
    if result.run_low is not None and result.run_high is not None:
        parts.append(f"a further run would lie between {result.run_low:.2f} and {result.run_high:.2f}")
    if result.learning_rate is not None:
        parts.append(f"learning rate {words.rate(result.learning_rate)}")
    parts.append(f"published by {result.cell.source}")
    if result.used_for_verdict:
        parts.append("verdicts use this printed number")
    parts += [note.rstrip(".") for note in result.notes]
    parts += [deviation.rstrip(".") for deviation in result.deviations]
    if result.run_ids:
        parts.append(f"runs {' '.join(result.run_ids)}")
    return ". ".join(parts) + "."
