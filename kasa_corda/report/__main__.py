"""``python -m kasa_corda.report RUNS_DIR --out DIR``: tables and a page from run directories."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from ..errors import KasaCordaError
from . import DEFAULT_REFERENCE, FORMATS, SELECTABLE, build_report, write_report


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="python -m kasa_corda.report",
        description="Make tables (Markdown, CSV, LaTeX), plots of score against cost (SVG) and one self-contained HTML"
        " page from run directories.",
    )
    p.add_argument("runs", nargs="+", metavar="RUNS_DIR", help="folder with run directories, at any depth")
    p.add_argument("--out", default="report", metavar="DIR", help="where to write (default: report)")
    p.add_argument(
        "--reference",
        metavar="METHOD",
        help=f"compare with this method or label, or with several: a comma list (default: {DEFAULT_REFERENCE})",
    )
    p.add_argument(
        "--tuned",
        action="append",
        default=[],
        metavar="KEY",
        help="of settings that differ in this config key alone, show the one with the best mean over seeds on the"
        " selection split, and every one tried; repeatable (chosen jointly), such as learning_rate",
    )
    p.add_argument(
        "--metric",
        default="",
        metavar="NAMES",
        help="columns instead of each task's own metric: a comma list of metrics in result.json, such as"
        " exact_match,nq_open_exact_match",
    )
    p.add_argument("--format", default=",".join(FORMATS), help=f"comma list of {', '.join(FORMATS)} (default: all)")
    p.add_argument(
        "--select",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="only runs with this value; repeatable; values may be comma lists and patterns, such as task=glue/*;"
        f" keys: {', '.join(SELECTABLE)}, or any config key such as trainer.learning_rate",
    )
    return p


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    try:
        formats = [name.strip() for name in options.format.split(",") if name.strip()]
        metrics = [name.strip() for name in options.metric.split(",") if name.strip()]
        report = build_report(
            options.runs, reference=options.reference, select=options.select, tuned=options.tuned, metrics=metrics
        )
        written = write_report(report, options.out, formats)
    except KasaCordaError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    from .console import print_summary
    from .render import states_line

    print_summary(report.summary_frame())
    print(states_line(report.records))
    for path in written:
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
