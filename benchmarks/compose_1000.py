"""How long does it take to compose and check 1,000 cells? python benchmarks/compose_1000.py [--runs 3] [--out DIR]"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from harness import Result, Side, arguments, seconds

RUN = Path(__file__).resolve().parents[1] / "run.py"
TARGET = 60.0
"""seconds of wall time"""
SWEEP = ["-m", "dry_run=true", "method=lora,kasa", "task=glue/cola,glue/mrpc,glue/rte,glue/sst2,glue/stsb"]


def main() -> None:
    options = arguments(__doc__, runs=3, seeds=100)
    cells, outputs = 10 * options.seeds, set()
    given = [*SWEEP, f"seed=range({options.seeds})"]
    with tempfile.TemporaryDirectory() as folder:

        def run() -> None:
            command = [sys.executable, str(RUN), *given]
            outputs.add(subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout)

        samples = [seconds(run) for _ in range(options.runs)]
    side = Side(f"python run.py {' '.join(given)}", samples)
    (output,) = outputs
    counted = f"sweep of {cells} cells: {cells} to run, 0 finished earlier, 0 impossible"
    right = output.startswith(counted) and output.rstrip().endswith(f"0 of {cells} cells finished, {cells} queued")
    Result(
        name="compose_1000",
        question=f"How long does it take to compose, validate and list a sweep of {cells} cells?",
        sides={"ours": side},
        same_answer=f"the same output each time, first line {output.splitlines()[0]!r}",
        ratio=TARGET / side.median,
        target=f"median under {TARGET:g} s, so a ratio (target / median) above 1",
        holds=right and side.median < TARGET,
        notes=["Includes starting Python, every cell's run id, a look at its run directory, and the printed table."],
    ).write(options.out)


if __name__ == "__main__":
    main()
