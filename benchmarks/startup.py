"""How long do --help and --cfg job take? python benchmarks/startup.py [--runs 7] [--out DIR]"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from harness import Result, Side, arguments, seconds

RUN = Path(__file__).resolve().parents[1] / "run.py"
TARGET = 1.5
"""seconds of wall time, each"""
COMMANDS = {"help": ["--help"], "cfg_job": ["--cfg", "job"]}


def main() -> None:
    options = arguments(__doc__, runs=7)
    sides, outputs = {}, {}
    with tempfile.TemporaryDirectory() as folder:

        def run(*given: str) -> str:
            command = [sys.executable, str(RUN), *given]
            return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout

        for name, given in COMMANDS.items():
            outputs[name] = {run(*given)}  # also fills the file cache and the byte code
            samples = [seconds(lambda n=name, g=given: outputs[n].add(run(*g))) for _ in range(options.runs)]
            sides[name] = Side(f"python run.py {' '.join(given)}, a new process each time", samples)
    slowest = max(side.median for side in sides.values())
    same = {name: len(texts) for name, texts in outputs.items()}
    Result(
        name="startup",
        question="How long does the command line take to answer when no run starts?",
        sides=sides,
        same_answer=f"distinct outputs over {options.runs + 1} runs: {same} (1 each is right)",
        ratio=TARGET / slowest,
        target=f"both medians under {TARGET} s, so a ratio (target / slower median) above 1",
        holds=slowest < TARGET and set(same.values()) == {1},
    ).write(options.out)


if __name__ == "__main__":
    main()
