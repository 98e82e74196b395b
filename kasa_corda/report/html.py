"""The report as one self-contained page: no network, light and dark, readable on a phone."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import format
from .forgetting import FORGETTING_CAPTION, forgetting_grid
from .grids import Grid, Text, choice_grid, comparison_grid, score_grid
from .learning_rates import rate_plot
from .notes import CHOICE_CAPTION, COMPARISON_CAPTION, FRONT_CAPTION, SAME_LAST
from .pareto import front_grid
from .plots import COLOURS, Plot, colour, cost_plots, task_plots
from .records import RunRecord, flatten
from .render import numeric_columns, states_line
from .tables import Table

MOST_PLOTTED_TASKS = 24
MOST_DETAILS = 500


@dataclass
class TablePart:
    """What the template shows of one table."""

    title: str
    caption: str
    best: Grid
    last: Grid | None
    """None where it would repeat ``best``"""
    comparisons: Grid | None
    fronts: Grid
    tuned: str
    """the keys that were chosen; empty where none was"""
    choices: Grid
    forgetting: Grid | None
    """None if no run asked for it"""
    notes: list[str]
    legend: list[tuple[str, str]]
    plots: dict[str, list[Plot]] = field(default_factory=dict)


@dataclass(frozen=True)
class RunPart:
    """One run's details: a heading, its command, and named lists of key and value."""

    title: str
    state: str
    error: str | None
    path: str
    command: str | None
    lists: dict[str, list[tuple[str, str]]]


def page(tables: Sequence[Table], records: Sequence[RunRecord], title: str = "Results") -> str:
    """The whole page. Everything that comes from a run is escaped by the template."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    parts, unplotted = table_parts(tables)
    detailed = sorted(records, key=lambda r: (r.state == "finished", str(r.path)))[:MOST_DETAILS]
    return environment.get_template("page.html").render(
        title=title,
        states=states_line(records),
        parts=parts,
        unplotted=unplotted,
        comparison_caption=COMPARISON_CAPTION,
        choice_caption=CHOICE_CAPTION,
        forgetting_caption=FORGETTING_CAPTION,
        front_caption=FRONT_CAPTION,
        same_last=SAME_LAST,
        numeric_columns=numeric_columns,
        missing=missing_grid([r for r in records if r.state != "finished"]),
        runs=[run_part(record) for record in detailed],
        left_out=len(records) - len(detailed),
    )


def table_parts(tables: Sequence[Table]) -> tuple[list[TablePart], int]:
    """The tables with their plots, and for how many tasks no plot was made because there are too many."""
    parts, drawn, unplotted = [], 0, 0
    for table in tables:
        part = TablePart(
            title=table.title,
            caption=table.caption,
            best=score_grid(table),
            last=None if table.last_is_best else score_grid(table, "last"),
            comparisons=comparison_grid(table) if table.comparisons else None,
            fronts=front_grid(table),
            tuned=" and ".join(table.tuned_keys),
            choices=choice_grid(table),
            forgetting=forgetting_grid(table),
            notes=table.notes,
            legend=[(colour(i), row.label) for i, row in enumerate(table.rows)],
        )
        for task in table.tasks:
            if drawn >= MOST_PLOTTED_TASKS:
                unplotted += 1
                continue
            many = len(table.rows) > 2 * len(COLOURS)
            part.plots[task] = cost_plots(table, task) if many else task_plots(table, task)
            part.plots[task] += [plot] if (plot := rate_plot(table, task)) else []
            unplotted += many
            drawn += 1
        parts.append(part)
    return parts, unplotted


def missing_grid(records: Sequence[RunRecord]) -> Grid:
    """Every run without a result and why."""
    header = ["State", "Task", "Model", "Method", "Seed", "Error", "Directory"]
    rows = [
        [
            Text(r.state),
            Text(r.task),
            Text(r.model),
            Text(r.label),
            Text(format.NOTHING if r.seed is None else str(r.seed), r.seed),
            Text(r.error or format.NOTHING),
            Text(str(r.path)),
        ]
        for r in sorted(records, key=lambda r: (r.state, str(r.path)))[:MOST_DETAILS]
    ]
    return header, rows


def run_part(record: RunRecord) -> RunPart:
    """Scores, costs, sources and provenance of one run as readable lists."""
    result = record.result
    provenance = _table(result.get("provenance"))
    command = provenance.pop("command", None)
    lists = {
        "Scores": _scores(record),
        "Cost": _costs(record),
        "Loss": _pairs(result.get("loss")),
        "Weights": _pairs(result.get("model_source")),
        "Data": _pairs(result.get("data")),
        "Provenance": _pairs(provenance),
        "Notes": [("", str(note)) for note in result.get("notes") or [] if note],
        "Settings": _pairs(record.settings),
    }
    score = (
        f": {format.percent(record.score, metric=record.metric)} {record.metric}" if record.score is not None else ""
    )
    return RunPart(
        title=f"{record.task}, {record.model}, {record.label}, seed {record.seed}{score}",
        state=record.state,
        error=record.error,
        path=str(record.path),
        command=None if command is None else str(command),
        lists={name: pairs for name, pairs in lists.items() if pairs},
    )


def _scores(record: RunRecord) -> list[tuple[str, str]]:
    pairs = []
    for name, outcome in (("best", record.best), ("last", record.last)):
        if outcome is None:
            continue
        pairs.append((f"{name} at", f"step {outcome.step}, epoch {_plain(outcome.epoch)}"))
        for split, scores in (("select", outcome.select), ("test", outcome.test)):
            pairs += [
                (f"{name}, {split}, {metric}", format.percent(value, metric=metric)) for metric, value in scores.items()
            ]
    return pairs


def _costs(record: RunRecord) -> list[tuple[str, str]]:
    result = record.result
    pairs = [
        (f"{name} parameters", f"{value:,}" if isinstance(value, int) else _plain(value))
        for name, value in _table(result.get("parameters")).items()
    ]
    pairs += [
        (f"{name} time", format.seconds(record.number("seconds", name))) for name in _table(result.get("seconds"))
    ]
    pairs += [
        (f"peak memory, {name}", format.memory(record.number("peak_memory_bytes", name)))
        for name, value in _table(result.get("peak_memory_bytes")).items()
        if value is not None
    ]
    pairs += [
        (name.replace("_", " "), format.plain_number(record.number("throughput", name)))
        for name in _table(result.get("throughput"))
    ]
    return pairs


def _pairs(value: Any) -> list[tuple[str, str]]:
    return [(str(key), _plain(item)) for key, item in flatten(_table(value)).items() if item not in (None, "", [], {})]


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}" if math.isfinite(value) else str(value)
    return value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)


def _table(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, dict) else {}
