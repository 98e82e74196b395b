"""``python -m kasa_corda.report.paper RUNS --form pocket|paper --out runs/report``: the page with every verdict."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from ...errors import KasaCordaError
from . import OUT, build


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="python -m kasa_corda.report.paper",
        description="Judge every claim of the papers by the runs, and write one self-contained page (index.html) with"
        " Markdown, CSV and LaTeX beside it.",
    )
    p.add_argument("runs", nargs="+", metavar="RUNS", help="folder with run directories, at any depth")
    p.add_argument(
        "--form",
        default="pocket",
        metavar="FORM",
        help="pocket: the claims on small models (default); paper: at the papers' own scale",
    )
    p.add_argument("--suite", metavar="NAME", help="only the claims that this suite's cells decide")
    p.add_argument(
        "--without-measurements",
        action="store_true",
        help="leave out seconds and memory: the same runs made again then give the same bytes",
    )
    p.add_argument("--out", default=str(OUT), metavar="DIR", help=f"where to write (default: {OUT})")
    return p


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    try:
        measured = not options.without_measurements
        print(build(options.runs, options.out, options.form, options.suite, measured))
    except KasaCordaError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
