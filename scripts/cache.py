"""List or prune the stored singular subspaces.

python scripts/cache.py                       what is stored, least recently used first
python scripts/cache.py --max-gb 5            remove the least recently used until 5 GB are left
python scripts/cache.py --older-than 30       remove what was not used for 30 days
python scripts/cache.py --all                 remove everything
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from pathlib import Path

from kasa_corda.errors import KasaCordaError
from kasa_corda.spectral import SpectralCache
from kasa_corda.spectral.cache import Entry

COLUMNS = ("key", "model", "layer", "shape", "rank", "MB", "unused")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="default: spectral/ in the user's cache (KASA_CORDA_CACHE)")
    parser.add_argument("--max-gb", type=_not_negative, metavar="GB", help="size to leave")
    parser.add_argument("--older-than", type=_not_negative, metavar="DAYS", help="remove what was unused this long")
    parser.add_argument("--all", action="store_true", help="remove everything")
    chosen = parser.parse_args(arguments)
    try:
        cache = SpectralCache(chosen.folder)
    except KasaCordaError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    if chosen.all or chosen.max_gb is not None or chosen.older_than is not None:
        limit = 0.0 if chosen.all else math.inf if chosen.max_gb is None else chosen.max_gb * 1e9
        age = math.inf if chosen.older_than is None else chosen.older_than * 86400
        removed = cache.evict(max_octets=limit, older_than=age)
        print(f"removed {len(removed)} files")
    print(listing(cache.entries(), cache.folder))
    return 0


def listing(entries: list[Entry], folder: Path) -> str:
    """One line per file and a total."""
    total = f"{len(entries)} files, {sum(entry.octets for entry in entries) / 1e9:.2f} GB in {folder}"
    if not entries:
        return total
    rows = [COLUMNS, *(_row(entry) for entry in entries)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*lines, total])


def _row(entry: Entry) -> tuple[str, ...]:
    about = entry.about
    known = [about.get(name) or "-" for name in ("model", "layer", "shape", "rank")]
    if not about:
        known[1] = "(damaged)"
    return (entry.path.stem[:12], *known, f"{entry.octets / 1e6:.2f}", _age(time.time() - entry.used))


def _age(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def _not_negative(text: str) -> float:
    value = float(text)
    if not value >= 0:
        raise argparse.ArgumentTypeError(f"{text} must be 0 or more")
    return value


if __name__ == "__main__":
    sys.exit(main())
