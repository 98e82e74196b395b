"""Compare two sets of runs (two machines, two versions): which scores changed beyond noise?

python scripts/compare.py RUNS_A RUNS_B                    table on the terminal
python scripts/compare.py RUNS_A RUNS_B --out changes.csv  also as .csv or .md

Runs of the same settings are matched. Where seeds agree the test is paired, else it is Welch's; p-values are corrected
(Holm) over all settings. Exit code: 0 nothing changed, 1 something changed, 2 the request is wrong.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from kasa_corda.errors import ConfigError, KasaCordaError


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("a", metavar="RUNS_A", type=Path, help="folder of run directories")
    parser.add_argument("b", metavar="RUNS_B", type=Path, help="another one")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the table there: .csv or .md")
    chosen = parser.parse_args(arguments)
    from kasa_corda.report.records import read_runs
    from kasa_corda.verdicts import changes, changes_table

    try:
        if chosen.out is not None and chosen.out.suffix not in changes_table.WRITERS:
            raise ConfigError(f"--out {chosen.out}: write a .csv or a .md file")
        found = changes.changes(read_runs([chosen.a]), read_runs([chosen.b]))
        changes_table.show(found)
        if chosen.out is not None:
            changes_table.write(found, chosen.out)
    except KasaCordaError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 1 if found.changed else 0


if __name__ == "__main__":
    sys.exit(main())
