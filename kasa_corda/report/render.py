"""Tables as Markdown and LaTeX, from the same grids."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from ..escaping import markdown_text as _md
from ..escaping import one_line
from .forgetting import FORGETTING_CAPTION, forgetting_grid
from .grids import Grid, Text, choice_grid, comparison_grid, score_grid
from .notes import CHOICE_CAPTION, COMPARISON_CAPTION, FRONT_CAPTION, SAME_LAST
from .pareto import front_grid
from .records import RunRecord
from .tables import Table

_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
    "\u00d7": r"$\times$",
    "\u2248": r"$\approx$",
    "\u2212": r"$-$",
}


def markdown(tables: Sequence[Table], records: Sequence[RunRecord]) -> str:
    """The whole report as one Markdown document."""
    blocks = ["# Results", states_line(records)]
    for table in tables:
        blocks += [f"## {_md(table.title)}", _md(table.caption), markdown_grid(score_grid(table))]
        blocks += [SAME_LAST] if table.last_is_best else ["Last epoch:", markdown_grid(score_grid(table, "last"))]
        if table.comparisons:
            blocks += ["Paired comparisons:", _md(COMPARISON_CAPTION), markdown_grid(comparison_grid(table))]
        if (fronts := front_grid(table))[1]:
            blocks += ["Score against cost:", _md(FRONT_CAPTION), markdown_grid(fronts)]
        if keys := " and ".join(table.tuned_keys):
            blocks += [f"Choice of {_md(keys)}:", _md(CHOICE_CAPTION), markdown_grid(choice_grid(table))]
        if forgetting := forgetting_grid(table):
            blocks += ["Forgetting:", _md(FORGETTING_CAPTION), markdown_grid(forgetting)]
        if table.notes:
            blocks.append("Notes:\n\n" + "\n".join(f"- {_md(note)}" for note in table.notes))
    missing = [record for record in records if record.state != "finished"]
    if missing:
        lines = [f"- {_md(str(r.path))}: {_md(r.state)}{f', {_md(r.error)}' if r.error else ''}" for r in missing]
        blocks += ["## Runs without a result", "\n".join(lines)]
    return "\n\n".join(blocks) + "\n"


def markdown_grid(grid: Grid) -> str:
    """A pipe table with aligned columns; the first column is text, scores are right-aligned."""
    header, rows = grid
    cells = [[_md(name) for name in header]]
    cells += [[f"**{_md(c.text)}**" if c.bold else _md(c.text) for c in row] for row in rows]
    numeric = numeric_columns(grid)
    widths = [max(3, *(len(row[i]) for row in cells)) for i in range(len(header))]
    rule = ["-" * (w - 1) + ":" if right else "-" * w for w, right in zip(widths, numeric, strict=True)]
    lines = [
        "| " + " | ".join(c.rjust(w) if n else c.ljust(w) for c, w, n in zip(row, widths, numeric, strict=True)) + " |"
        for row in [cells[0], rule, *cells[1:]]
    ]
    return "\n".join(lines)


def latex(tables: Sequence[Table]) -> str:
    """Every table as a LaTeX float (needs the booktabs package)."""
    blocks = [r"% needs \usepackage{booktabs} in the preamble"]
    for number, table in enumerate(tables, 1):
        title = latex_escape(table.title)
        notes = " ".join(latex_escape(note) for note in table.notes)
        best = f"{title}. {latex_escape(table.caption)}"
        blocks.append(_float(score_grid(table), best, f"tab:best-{number}", notes))
        if not table.last_is_best:
            last = f"{title}. Scores x 100 at the last epoch."
            blocks.append(_float(score_grid(table, "last"), last, f"tab:last-{number}"))
        if table.comparisons:
            text = f"{title}. {latex_escape(COMPARISON_CAPTION)}"
            blocks.append(_float(comparison_grid(table), text, f"tab:compare-{number}"))
        if keys := " and ".join(table.tuned_keys):
            text = f"{title}, choice of {latex_escape(keys)}. {latex_escape(CHOICE_CAPTION)}"
            blocks.append(_float(choice_grid(table), text, f"tab:choice-{number}"))
        if forgetting := forgetting_grid(table):
            text = f"{title}. {latex_escape(FORGETTING_CAPTION)}"
            blocks.append(_float(forgetting, text, f"tab:forgetting-{number}"))
    return "\n\n".join(blocks) + "\n"


def latex_escape(text: str) -> str:
    """Text that came from anywhere, safe inside LaTeX."""
    return "".join(_LATEX.get(character, character) for character in one_line(text))


def states_line(records: Iterable[RunRecord]) -> str:
    """'18 runs: 16 finished, 2 failed'"""
    states = Counter(record.state for record in records)
    order = sorted(states, key=lambda state: (state != "finished", state))
    return f"{sum(states.values())} runs: " + ", ".join(f"{states[state]} {state}" for state in order)


def _float(grid: Grid, caption: str, label: str, notes: str = "") -> str:
    header, rows = grid
    columns = "".join("r" if right else "l" for right in numeric_columns(grid))
    body = [" & ".join(latex_escape(name) for name in header) + r" \\"]
    body.append(r"\midrule")
    body += [" & ".join(_latex_cell(cell) for cell in row) + r" \\" for row in rows]
    lines = [r"\begin{table}[t]", r"\centering", r"\small", rf"\caption{{{caption}}}", rf"\label{{{label}}}"]
    lines += [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", *body, r"\bottomrule", r"\end{tabular}"]
    if notes:
        lines.append(rf"\par\smallskip{{\footnotesize {notes}\par}}")
    return "\n".join([*lines, r"\end{table}"])


def _latex_cell(cell: Text) -> str:
    text = latex_escape(cell.text)
    return rf"\textbf{{{text}}}" if cell.bold else text


def numeric_columns(grid: Grid) -> list[bool]:
    """Columns of numbers: those in which any cell has a value to sort by."""
    header, rows = grid
    return [any(row[i].value is not None for row in rows) for i in range(len(header))]
