"""How long the report of 10,000 runs takes, and how much memory, in a process of its own.

python benchmarks/report_10000.py [--runs 10000]
"""

from __future__ import annotations

import itertools
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import harness

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from made_runs import FRESH_SEEDS, GLUE, METHODS, Made, ablation_runs, make, pocket_runs

SECONDS, BYTES = 60.0, 2 * 2**30
SIZE = 15 * 2**20


def everything() -> Iterator[Made]:
    """A pocket suite with its search and ablations, SmolLM2, and then the same at further ranks and seeds."""
    yield from pocket_runs()
    for task in GLUE:
        yield from ablation_runs(task)
    yield from pocket_runs(("lora", "pissa", "full"), ("gsm8k",), model="smollm2_135m")
    ranked = [method for method in METHODS if method not in ("full", "bitfit")]
    for seed in itertools.count(200):
        for rank, method, task in itertools.product((2, 4, 16, 32, 64, 128), ranked, GLUE):
            for rate in (1e-4, 4e-4, 1e-3):
                yield Made(
                    "minilm", task, method, seed, rate, changes={"method.rank": rank, "method.alpha": 2.0 * rank}
                )


def measured(root: Path, out: Path) -> dict[str, Any]:
    """Read, judge, write; run in a process of its own so that its peak memory is the report's."""
    from kasa_corda.report.paper import write
    from kasa_corda.report.paper.material import gather

    start = time.perf_counter()
    material = gather([root], "pocket")
    read = time.perf_counter()
    path = write(material, out)
    done = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    finished = sum(record.state == "finished" for record in material.records)
    return {
        "runs": len(material.records),
        "finished": finished,
        "read": read - start,
        "write": done - read,
        "bytes": peak,
        "page": path.stat().st_size,
    }


def checked(root: Path, out: Path) -> int:
    """How many numbers of the page are the means of their runs; SystemExit if one is not."""
    from paper_page import results_of, seen

    results, numbers = results_of([root]), seen((out / "index.html").read_text(encoding="utf-8")).numbers
    for number in numbers:
        if abs(number.value - number.again(results)) > 1e-9 * max(1.0, abs(number.value)):
            raise SystemExit(f"{number} is not the mean of its runs; nothing is stored")
    return len(numbers)


def main() -> None:
    if sys.argv[1:2] == ["measure"]:
        print(json.dumps(measured(Path(sys.argv[2]), Path(sys.argv[3]))))
        return
    chosen = harness.arguments(__doc__, runs=10000, repeats=3)
    with tempfile.TemporaryDirectory() as folder:
        root, out = Path(folder) / "runs", Path(folder) / "report"
        for made in itertools.islice(everything(), chosen.runs):
            make(root, made)
        samples = []
        for _ in range(chosen.repeats):
            words = [sys.executable, __file__, "measure", str(root), str(out)]
            output = subprocess.run(words, check=True, capture_output=True, text=True).stdout
            samples.append(json.loads(output.splitlines()[-1]))
            print(samples[-1], flush=True)
        numbers = checked(root, out)
    seconds = harness.Side("python -m kasa_corda.report.paper RUNS", [s["read"] + s["write"] for s in samples])
    memory = harness.Side("the same, peak resident memory", [float(s["bytes"]) for s in samples], unit="bytes")
    size = max(s["page"] for s in samples)
    unfinished = samples[0]["runs"] - samples[0]["finished"]
    ratio = min(SECONDS / seconds.median, BYTES / memory.median, SIZE / size)
    harness.Result(
        name="report_10000",
        question=f"How long does the report of {samples[0]['runs']:,} runs take, and how much memory?",
        sides={"seconds": seconds, "memory": memory},
        same_answer=f"{numbers:,} numbers of the page computed again from result.json, all equal",
        ratio=ratio,
        target="under 60 s, 2 GiB and a page of 15 MiB: the least of (limit / measured) above 1",
        holds=ratio > 1,
        notes=[
            f"{unfinished} of the runs are unfinished; the page has {size / 2**20:.1f} MiB",
            f"last: reading and judging {samples[-1]['read']:.1f} s, drawing {samples[-1]['write']:.1f} s",
            f"the runs are made (tests/made_runs.py), {len(FRESH_SEEDS)} fresh seeds a setting and more",
        ],
    ).write(chosen.out)


if __name__ == "__main__":
    main()
