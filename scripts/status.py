"""Where the runs of a folder stand: counts, how far each running one is, what failed and why.

python scripts/status.py runs               once
python scripts/status.py runs --watch       again every few seconds, until Ctrl-C

Exit code: 0, 1 if a run failed, 2 if there is no such folder.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from kasa_corda.escaping import printable
from kasa_corda.queue.states import standings, status_text


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, help="the folder of run directories (run_root)")
    parser.add_argument("--watch", action="store_true", help="show it again and again")
    parser.add_argument("--every", type=float, default=5.0, metavar="SECONDS", help="with --watch (default 5)")
    chosen = parser.parse_args(arguments)
    if not chosen.runs.is_dir():
        print(f"error: there is no folder {str(chosen.runs)!r}; give the run_root of the runs", file=sys.stderr)
        return 2
    try:
        while chosen.watch:
            clear = "\033[H\033[2J" if sys.stdout.isatty() else ""
            print(f"{clear}{time.strftime('%H:%M:%S')}  {printable(status_text(chosen.runs))}", flush=True)
            time.sleep(chosen.every)
    except KeyboardInterrupt:
        return 0
    print(printable(status_text(chosen.runs)))
    return int(any(run.state in ("failed", "damaged") for run in standings(chosen.runs)))


if __name__ == "__main__":
    sys.exit(main())
