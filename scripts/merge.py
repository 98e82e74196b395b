"""Put run folders together that were made on several machines, or in several sittings.

python scripts/merge.py runs_a runs_b --into runs              copy what runs lacks, or has less far
python scripts/merge.py runs_a runs_b --into runs --dry-run    only say what would be copied

The same run with the same result counts once. With different results it is an error that names both directories, and
nothing is copied; floats of different devices differ slightly, --keep first or --keep newest chooses one then.
Exit code: 0, 1 for a conflict, 2 for a wrong request.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from kasa_corda.errors import KasaCordaError
from kasa_corda.merge import KEEP, merge


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", type=Path, nargs="+", help="folders of run directories")
    parser.add_argument("--into", type=Path, required=True, metavar="FOLDER", help="where all runs shall be")
    parser.add_argument("--keep", choices=KEEP, help="which of two different results to keep")
    parser.add_argument("--dry-run", action="store_true", help="copy nothing")
    chosen = parser.parse_args(arguments)
    try:
        planned = merge(chosen.sources, chosen.into, keep=chosen.keep, dry_run=chosen.dry_run)
    except KasaCordaError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    for place, source in planned.copies.items():
        print(f"  {'would copy' if chosen.dry_run else 'copied'} {source.path} to {chosen.into / place}")
    print(planned.text() if chosen.dry_run else planned.text().replace("to copy", "copied"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
