"""The page that answers ``make reproduce-paper``: every claim's verdict, every printed number beside ours, and all that
a sceptic wants to see of how they came about. One HTML file without network, and Markdown, CSV and LaTeX."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import ConfigError, DataError, unknown

if TYPE_CHECKING:
    from .layout import Chapter
    from .material import Material

TITLE = "KaSA and CorDA: printed numbers, our runs, and a verdict for every claim"
OUT = Path("runs/report")


def build(
    roots: Iterable[str | Path],
    out: str | Path = OUT,
    form: str = "pocket",
    suite: str | None = None,
    measured: bool = True,
) -> Path:
    """Read the runs below ``roots``, judge the claims in their pocket or paper form, and write the report into ``out``.

    suite: only claims that its cells decide. measured: with time and memory; without, the same bytes also for runs that
    were repeated bit by bit. The same runs always give the same bytes. Returns the path of index.html.
    """
    from .material import FORMS, gather

    if form not in FORMS:
        raise ConfigError(unknown("--form", form, FORMS))
    return write(gather(roots, form, suite, measured), out)


def write(material: Material, out: str | Path) -> Path:
    """index.html, report.md, tables.tex, claims.csv, cells.csv and runs.csv."""
    from ...privacy import public_text
    from ...store import write_atomically
    from . import files, html, texts

    chapters = chapters_of(material)
    title, subtitle = TITLE, subtitle_of(material)
    contents = {
        "report.md": texts.markdown(chapters, title, subtitle),
        "tables.tex": texts.latex(chapters),
        "claims.csv": files.claims(material),
        "cells.csv": files.cells(material),
        "runs.csv": files.runs(material),
        "index.html": html.page(chapters, title, subtitle),
    }
    for name, text in contents.items():
        try:
            write_atomically(Path(out) / name, public_text(text))
        except OSError as error:
            raise DataError(f"cannot write {Path(out) / name} ({error.strerror})") from None
    return Path(out) / "index.html"


def chapters_of(material: Material) -> list[Chapter]:
    """The whole report, in the order in which it is read."""
    from . import background, claims, curves, figures, pareto, printed, rates, scores

    cost = [background.cost(material)] if material.measured else []
    return [
        claims.chapter(material),
        printed.chapter(material),
        scores.chapter(material),
        figures.chapter(material),
        rates.chapter(material),
        curves.chapter(material),
        pareto.chapter(material),
        background.deviations(material),
        background.audit(material),
        *cost,
        background.missing(material),
        background.provenance(material),
    ]


def subtitle_of(material: Material) -> str:
    counts = ", ".join(f"{count:,} {state}" for state, count in material.counts().items())
    suite = f"Suite {material.suite}. " if material.suite else ""
    scale = "Pocket form: small models, real data" if material.form == "pocket" else "Paper form: the papers' models"
    return f"{suite}{scale}. {len(material.records):,} runs: {counts}."
