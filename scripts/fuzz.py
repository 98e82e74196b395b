"""Feed malformed input of every kind and count what comes of it: python scripts/fuzz.py --minutes 15 --seed 1 [--write]

Right is a result, or one sentence and exit code 1 or 2. A traceback, more than 20 s of processor time, a lost process
or half a result is a bug: it is printed with what repeats it, and the exit code is 1. --write puts the table into
docs/reliability.md.
"""

from __future__ import annotations

import argparse
import json
import re
import secrets
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- fuzz: begin -->", "<!-- fuzz: end -->"
sys.path[:0] = [str(ROOT / "tests"), str(ROOT)]

from fuzz.cases import BUG, READ, REFUSED, Outcome  # noqa: E402
from fuzz.worker import Order, Worker  # noqa: E402


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=15.0, help="when to stop (default 15)")
    parser.add_argument("--seed", type=int, help="of the mutations (default: drawn and printed)")
    parser.add_argument("--kind", help="only the kinds whose name contains this")
    parser.add_argument("--number", type=int, help="repeat this one attempt of the kind")
    parser.add_argument("--write", action="store_true", help=f"write the table into {PAGE.relative_to(ROOT)}")
    parser.add_argument("--folder", type=Path, help="keep the sound samples here, for a faster start")
    parser.add_argument("--bugs", type=Path, help="write the bugs found, one JSON line each, to this file")
    chosen = parser.parse_args(arguments)
    seed = secrets.randbelow(10**6) if chosen.seed is None else chosen.seed
    print(f"seed {seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        worker = Worker((chosen.folder or Path(folder)).absolute())
        names = [name for name in worker.hand_made if not chosen.kind or chosen.kind in name]
        if not names:
            print(f"error: --kind {chosen.kind}; there are {', '.join(worker.hand_made)}", file=sys.stderr)
            return 2
        if chosen.number is not None:
            print(worker.make(Order(names[0], chosen.number, seed)))
            return 0
        began = time.monotonic()
        outcomes, bugs = attempts(worker, names, seed, began + 60 * chosen.minutes)
        worker.end()
    minutes = (time.monotonic() - began) / 60
    text = f"{summary(seed, minutes, outcomes)}\n\n{table(names, outcomes)}"
    print(text)
    if chosen.bugs:
        chosen.bugs.write_text("".join(json.dumps([vars(order), vars(found)]) + "\n" for order, found in bugs))
    if chosen.write:
        write(text)
    return int(bool(bugs))


def attempts(worker: Worker, names: list[str], seed: int, until: float) -> tuple[Counter, list[tuple[Order, Outcome]]]:
    """Attempts in turn, each kind with an equal share of the time, until the time is up; and the bugs among them."""
    outcomes: Counter[tuple[str, str]] = Counter()
    numbers, spent = Counter(dict.fromkeys(names, 0)), dict.fromkeys(names, 0.0)
    bugs = []
    while (now := time.monotonic()) < until:
        name = min(names, key=spent.__getitem__)
        order = Order(name, numbers[name], seed)
        found = worker.make(order)
        numbers[name] += 1
        spent[name] += time.monotonic() - now
        outcomes[name, found.what] += 1
        if found.what == BUG:
            bugs.append((order, found))
            print(f"BUG {name} {order.number} (--seed {seed} --kind '{name}' --number {order.number}): {found.about}")
            print(f"  {found.story.strip().splitlines()[-1][:300] if found.story.strip() else ''}", flush=True)
    return outcomes, bugs


def summary(seed: int, minutes: float, outcomes: Counter) -> str:
    total, bugs = sum(outcomes.values()), sum(n for (_, what), n in outcomes.items() if what == BUG)
    return f"{total:,} attempts in {minutes:.1f} minutes, seed {seed}: {bugs} bugs."


def table(names: list[str], outcomes: Counter) -> str:
    """Attempts and outcomes by kind, in Markdown."""
    rows = [
        "| malformed | attempts | read all the same | refused in one sentence | bugs |",
        "|---|---:|---:|---:|---:|",
    ]
    for name in names:
        counts = [outcomes[name, what] for what in (READ, REFUSED, BUG)]
        rows.append(f"| {name} | {sum(counts):,} | {' | '.join(f'{n:,}' for n in counts)} |")
    return "\n".join(rows)


def write(text: str) -> None:
    """Put the table between its marks."""
    page = PAGE.read_text(encoding="utf-8")
    marked = f"{BEGIN}\n{text}\n{END}"
    PAGE.write_text(re.sub(f"{BEGIN}.*?{END}", lambda _: marked, page, flags=re.DOTALL), encoding="utf-8")
    print(f"written: {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    sys.exit(main())
