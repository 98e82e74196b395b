"""The stored benchmark results as one table, on screen and as docs/performance.md.

python benchmarks/table.py           print the table
python benchmarks/table.py --write   and write docs/performance.md
python benchmarks/table.py --check   exit 1 if docs/performance.md is not what --write would write
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).resolve().parents[1] / "docs" / "performance.md"

HEAD = """# Performance

Generated from `benchmarks/results/*.json` by `make bench` (`python benchmarks/table.py --write`). Every ratio is of
two sides measured in one run, after their answers were checked to agree; each file holds all samples, versions, device
and command.
"""


def stored(folder: Path = RESULTS) -> list[dict[str, Any]]:
    """Every benchmark result, by name; other JSON (result tables of real runs) is left out."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    return [result for result in found if isinstance(result, dict) and "sides" in result]


def amount(value: float, unit: str) -> str:
    """Seconds or bytes, as a person reads them."""
    if unit == "bytes":
        return f"{value / 2**30:.2f} GiB"
    return f"{value * 1e3:.3g} ms" if value < 1 else f"{value:.3g} s"


def summary(result: dict[str, Any]) -> str:
    """One row of the overview."""
    verdict = "holds" if result["holds"] else "**missed**"
    link = f"[{result['name']}](#{result['name']})"
    return f"| {link} | {result['ratio']:.3g} | {result['target']} | {verdict} | {result['device']} |"


def section(result: dict[str, Any]) -> str:
    """Question, sides, how equality was checked, notes and further rows of one result."""
    lines = [f"## {result['name']}", "", result["question"], ""]
    lines += ["| side | median | samples | what ran |", "|---|---|---|---|"]
    for name, side in result["sides"].items():
        samples = sorted(side["samples"])
        middle = samples[len(samples) // 2] if len(samples) % 2 else sum(samples[len(samples) // 2 - 1 :][:2]) / 2
        median = amount(middle, side.get("unit", "seconds"))
        lines.append(f"| {name} | {median} | {len(samples)} | {side['ran']} |")
    lines += ["", f"Same answer: {result['same_answer']}."]
    lines += [f"- {note}" for note in result["notes"]]
    if result["table"]:
        columns = list(dict.fromkeys(key for row in result["table"] for key in row))
        lines += ["", "| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
        lines += ["| " + " | ".join(cell(row.get(key, "")) for key in columns) + " |" for row in result["table"]]
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    lines += ["", f"`{result['command']}` on {result['device']}, {result['date'][:10]} ({versions})", ""]
    return "\n".join(lines)


def cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def page(results: list[dict[str, Any]]) -> str:
    """docs/performance.md."""
    overview = ["| question | ratio | target | | device |", "|---|---|---|---|---|", *map(summary, results)]
    return "\n".join([HEAD, *overview, "", *map(section, results)])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--check", action="store_true")
    chosen = parser.parse_args()
    text = page(stored())
    if chosen.check:
        current = PAGE.exists() and PAGE.read_text(encoding="utf-8") == text
        print("docs/performance.md is current" if current else "docs/performance.md is stale: run make bench")
        return int(not current)
    if chosen.write:
        PAGE.write_text(text, encoding="utf-8")
    for result in stored():
        verdict = "holds" if result["holds"] else "MISSED"
        print(f"{result['name']:26} {result['ratio']:8.3g}  {verdict:6}  {result['target']}  [{result['device']}]")
    return 0


if __name__ == "__main__":
    sys.exit(main())
