"""Findings on the terminal and as Markdown, CSV or JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from ..errors import ConfigError
from .auditing import Coverage
from .finding import SEVERITIES, Finding

FORMATS = (".md", ".csv", ".json")
_OF_CELL = ("paper", "table", "model", "task", "metric", "method", "setting", "value", "std")
COLUMNS = ("severity", "check", *_OF_CELL, "sentence")


def write(path: Path, findings: Sequence[Finding], covered: Coverage) -> None:
    """To the form that the file name ends in; ConfigError for another one."""
    forms = {".md": markdown, ".csv": lambda found, _: table(found), ".json": as_json}
    if path.suffix not in forms:
        raise ConfigError(f"--out {path} must end in one of {', '.join(FORMATS)}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(forms[path.suffix](findings, covered), encoding="utf-8")


def summary(findings: Sequence[Finding], covered: Coverage) -> str:
    """One sentence on what was looked at, one on what was found."""
    counts = {name: sum(f.severity == name for f in findings) for name in SEVERITIES}
    found = ", ".join(f"{count} {name}" for name, count in counts.items())
    return (
        f"{covered.numbers} numbers of {covered.cells} cells: {covered.shares} shares of right answers on a set of "
        f"known size (on {covered.shares_decisive} the check can fail), {covered.matrices} Matthews or F1 on known "
        f"class counts, {covered.spreads} means with std, {covered.averages} averages over tasks, "
        f"{covered.parameters} parameter counts. Findings: {found}."
    )


def markdown(findings: Sequence[Finding], covered: Coverage) -> str:
    lines = ["# Audit of published numbers", "", summary(findings, covered)]
    for severity, meaning in SEVERITIES.items():
        if members := [f for f in findings if f.severity == severity]:
            lines += ["", f"## {severity.capitalize()}: {meaning}", ""]
            lines += [f"- {finding.sentence} ({finding.check})" for finding in members]
    return "\n".join(lines) + "\n"


def table(findings: Sequence[Finding]) -> str:
    """One row for each printed number of each finding."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for finding in findings:
        for cell in finding.cells:
            row = {name: getattr(cell, name) for name in _OF_CELL}
            writer.writerow({"severity": finding.severity, "check": finding.check, **row, "sentence": finding.sentence})
    return text.getvalue()


def as_json(findings: Sequence[Finding], covered: Coverage) -> str:
    content = {"covered": asdict(covered), "findings": [asdict(finding) for finding in findings]}
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def show(findings: Sequence[Finding], covered: Coverage) -> None:
    """A table on the terminal, worst first."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    colours = dict(zip(SEVERITIES, ("bold red", "red", "yellow", "dim"), strict=True))
    console = Console()
    shown = Table(title="Audit of published numbers", title_justify="left", show_lines=True)
    for column in ("", "check", "what was found"):
        shown.add_column(column, overflow="fold")
    for finding in findings:
        shown.add_row(Text(finding.severity, style=colours[finding.severity]), finding.check, Text(finding.sentence))
    if findings:
        console.print(shown)
    console.print(Text(summary(findings, covered)))
    for severity, meaning in SEVERITIES.items():
        console.print(Text(f"{severity}: {meaning}", style=colours[severity]))
