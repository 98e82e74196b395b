"""The same chapters as Markdown, and their tables as LaTeX."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..grids import Text
from ..render import latex_escape, markdown_grid
from .layout import Block, Bullets, Cell, Chapter, Code, Drawing, Fold, Grid, Heading, Sentence, Tiles


def markdown(chapters: Sequence[Chapter], title: str, subtitle: str) -> str:
    blocks = [f"# {safe(title)}", safe(subtitle)]
    for chapter in chapters:
        blocks.append(f"## {safe(chapter.title)}")
        blocks += _markdown(chapter.blocks)
    return "\n\n".join(blocks) + "\n"


def _markdown(blocks: Sequence[Block]) -> list[str]:
    found = []
    for block in blocks:
        match block:
            case Sentence():
                found.append(safe(block.text))
            case Heading():
                found.append(f"### {safe(block.text)}")
            case Bullets():
                found.append("\n".join(f"- {safe(item)}" for item in block.items))
            case Code():
                found.append("```\n" + block.text.replace("```", "'''") + "\n```")
            case Tiles():
                found.append(", ".join(f"{count} {name}" for count, name, _ in block.items) + ".")
            case Grid():
                found += _table(block)
            case Fold():
                found += [f"#### {safe(block.title)}", *_markdown(block.blocks)]
            case Drawing():
                found.append(f"Figure (in index.html): {safe(block.title)}. {safe(block.described)}".rstrip())
    return found


def _table(grid: Grid) -> list[str]:
    header = [f"{column.group}: {column.name}" if column.group else column.name for column in grid.columns]
    rows = [[Text(_marked(cell, grid), cell.value) for cell in row] for row in grid.rows]
    found = [f"**{safe(grid.title)}** {safe(grid.caption)}".rstrip(), markdown_grid((header, rows))]
    if grid.left_out:
        found.append(safe(grid.left_out))
    if grid.notes:
        found.append("\n".join(f"{number}. {safe(note)}" for number, note in enumerate(grid.notes, 1)))
    return found


def _marked(cell: Cell, grid: Grid) -> str:
    note = f" [{grid.number(cell)}]" if cell.note else ""
    return f"{cell.sign} {cell.text}{note}".strip()


def safe(text: str) -> str:
    """Text that came from anywhere, with no Markdown or HTML of its own."""
    text = re.sub(r"\s+", " ", text).replace("\\", "\\\\")
    for character in "|*`_":
        text = text.replace(character, f"\\{character}")
    return re.sub(r"<(?=[A-Za-z/!?])", "&lt;", text.replace("](", "]\\("))


def latex(chapters: Sequence[Chapter]) -> str:
    """Every table as a float; needs booktabs."""
    head = "% needs \\usepackage{booktabs}; wide tables may need \\resizebox or landscape"
    return "\n\n".join([head, *(_float(grid) for chapter in chapters for grid in chapter.grids())]) + "\n"


def _float(grid: Grid) -> str:
    layout = "".join("r" if right else "l" for right in grid.numeric)
    caption = ". ".join(part.rstrip(".") for part in (grid.title, grid.caption) if part)
    lines = [r"\begin{table}[t]", r"\centering", r"\small", rf"\caption{{{latex_escape(caption)}.}}"]
    lines += [rf"\label{{tab:{grid.key}}}", rf"\begin{{tabular}}{{{layout}}}", r"\toprule"]
    if grid.groups:
        spans = [rf"\multicolumn{{{span}}}{{c}}{{{latex_escape(name)}}}" if name else "" for name, span in grid.groups]
        lines.append(" & ".join(spans) + r" \\")
    lines += [" & ".join(latex_escape(column.name) for column in grid.columns) + r" \\", r"\midrule"]
    lines += [" & ".join(_latex(cell) for cell in row) + r" \\" for row in grid.rows]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}"])


def _latex(cell: Cell) -> str:
    sign = {"inside": "$=$ ", "outside": r"$\neq$ "}.get(cell.state, "")
    return sign + latex_escape(cell.text)
