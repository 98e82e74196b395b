"""Reports: run directories in, tables, statistics and one HTML page out. Heavy libraries load when needed."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError, DataError, unknown
from ..escaping import csv_cell

if TYPE_CHECKING:
    import pandas as pd

    from .records import RunRecord
    from .tables import Table

FORMATS = ("md", "csv", "latex", "html", "svg")
DEFAULT_REFERENCE = "lora"
SELECTABLE = ("task", "model", "method", "label", "variant", "seed", "selection", "scale", "state", "metric")


@dataclass(frozen=True)
class Report:
    """The runs that were read and the tables made from them."""

    records: list[RunRecord]
    tables: list[Table]

    def summary_frame(self) -> pd.DataFrame:
        """One row per table, method and task; see ``frames.summary_frame``."""
        from .frames import summary_frame

        return summary_frame(self.tables)


def build_report(
    roots: Iterable[str | Path],
    *,
    reference: str | None = None,
    select: Sequence[str] = (),
    tuned: Sequence[str] = (),
    metrics: Sequence[str] = (),
) -> Report:
    """Read all runs below ``roots`` and compare them with ``reference`` (by default lora, where there is one).

    reference: a label or method, or several as a comma list. tuned: keys of which the value is chosen on the selection
    split (``tuning.tune``); the report keeps all records, its tables the chosen ones. metrics: what the tables show
    instead of each task's own metric (``measures.by_metric``).
    """
    from .measures import by_metric
    from .records import read_runs
    from .tables import build_tables
    from .tuning import tune

    roots = list(roots)
    records = read_runs(roots)
    if not records:
        raise DataError(f"no run directory below {', '.join(map(str, roots))}; give the folder that run.py writes to")
    chosen = select_runs(records, select)
    kept, choices = tune(chosen, tuned) if tuned else (chosen, [])
    columns = by_metric(kept, metrics) if metrics else kept
    references = [name.strip() for name in (reference or DEFAULT_REFERENCE).split(",")]
    tables = build_tables(columns, references, required=reference is not None, choices=choices)
    return Report(chosen, tables)


def select_runs(records: Sequence[RunRecord], filters: Sequence[str]) -> list[RunRecord]:
    """Runs that meet every ``key=value``; values may be comma lists and patterns (task=glue/*), keys config keys."""
    chosen = list(records)
    for one in filters:
        key, equals, wanted = one.partition("=")
        if not equals or not wanted:
            raise ConfigError(f"--select {one} is not of the form key=value, for example task=glue/rte")
        keys = {*SELECTABLE, *(name for record in records for name in record.settings)}
        if key not in keys:
            raise ConfigError(unknown("--select key", key, keys))
        patterns = wanted.split(",")
        found = [r for r in chosen if any(fnmatch.fnmatchcase(_value(r, key), pattern) for pattern in patterns)]
        if not found:
            raise ConfigError(f"--select {unknown(key, wanted, {_value(record, key) for record in chosen})}")
        chosen = found
    return chosen


def write_report(report: Report, out: str | Path, formats: Sequence[str] = FORMATS) -> list[Path]:
    """Write the chosen formats into ``out`` and return the files."""
    for name in formats:
        if name not in FORMATS:
            raise ConfigError(unknown("--format", name, FORMATS))
    writers: dict[str, Callable[[Report], dict[str, str]]] = {
        "md": _markdown_files,
        "csv": _csv_files,
        "latex": _latex_files,
        "html": _html_files,
        "svg": _svg_files,
    }
    from ..privacy import public_text
    from ..store import write_atomically

    written = []
    for name in dict.fromkeys(formats):
        for file, text in writers[name](report).items():
            try:
                write_atomically(Path(out) / file, public_text(text))
            except OSError as error:
                raise DataError(f"cannot write {Path(out) / file} ({error.strerror})") from None
            written.append(Path(out) / file)
    return written


def _markdown_files(report: Report) -> dict[str, str]:
    from .render import markdown

    return {"report.md": markdown(report.tables, report.records)}


def _latex_files(report: Report) -> dict[str, str]:
    from .render import latex

    return {"report.tex": latex(report.tables)}


def _html_files(report: Report) -> dict[str, str]:
    from .html import page

    return {"report.html": page(report.tables, report.records)}


def _svg_files(report: Report) -> dict[str, str]:
    from .learning_rates import rate_files
    from .plots import plot_files

    return plot_files(report.tables) | rate_files(report.tables)


def _csv_files(report: Report) -> dict[str, str]:
    from .frames import comparison_frame, long_frame, runs_frame

    frames = {
        "summary.csv": report.summary_frame(),
        "runs.csv": runs_frame(report.records),
        "scores_long.csv": long_frame(report.records),
        "comparisons.csv": comparison_frame(report.tables),
    }
    return {name: _csv(table) for name, table in frames.items() if len(table.columns)}


def _csv(table: pd.DataFrame) -> str:
    texts = table.select_dtypes(exclude=["number", "bool"])
    return table.assign(**texts.map(csv_cell)).to_csv(index=False, na_rep="nan")


def _value(record: RunRecord, key: str) -> str:
    value: Any = getattr(record, key) if key in SELECTABLE else record.settings.get(key)
    return str(value)
