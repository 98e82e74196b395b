"""Kill a suite again and again, go on each time with the same command: are all runs and the report what they would be?

python benchmarks/kill_suite.py [--kills 10] [--seed 1] [--steps 200]

Every second kill ends everything at once, workers included; the others end the queue's own process group, so that its
workers have to notice. In both cases the next command starts at once.
"""

from __future__ import annotations

import json
import math
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import harness
import psutil
from safetensors.torch import load_file

from kasa_corda.queue.worker import GRACE_SECONDS
from kasa_corda.report.records import MEASURED
from kasa_corda.store import RunDirectory, find_runs

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

METHODS = "kasa,lora,pissa"
UNTIMED = ("time", "examples_per_second")
"""keys of an event in metrics.jsonl that are a clock's"""


@dataclass
class Kill:
    """One sitting that was ended."""

    kind: str
    """all: queue and workers; queue: its process group alone"""
    after: float
    """seconds from its start"""
    finished: int
    """runs that were finished by then"""
    begun: int
    """runs that were under way"""


@dataclass
class Suite:
    """One command in a folder of its own, with a learning-rate search in it; ``words`` are its overrides."""

    folder: Path
    words: list[str]
    ended: list[psutil.Process] = field(default_factory=list)
    """processes of killed sittings"""
    began: float = 0.0
    """when the last sitting was started, in seconds since the epoch"""

    @property
    def runs(self) -> Path:
        return self.folder / "runs"

    def start(self) -> subprocess.Popen[bytes]:
        self.folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, str(ROOT / "run.py"), *self.words]
        self.began = time.time()
        environment = {**os.environ, "KASA_CORDA_CACHE": str(self.folder / "cache"), "HF_HUB_OFFLINE": "1"}
        with (self.folder / "output.txt").open("ab") as output:
            return subprocess.Popen(
                command, cwd=self.folder, env=environment, stdout=output, stderr=output, start_new_session=True
            )

    def complete(self, timeout: float | None = None) -> float:
        """Run it to its end; seconds. SystemExit if a run of it is not finished then."""
        began = time.monotonic()
        process = self.start()
        if process.wait(timeout):
            raise SystemExit(f"the suite ended with exit code {process.returncode}: {self.folder / 'output.txt'}")
        return time.monotonic() - began

    def first_step(self) -> float:
        """Seconds from the start of the only sitting to its first record: composing, importing, loading."""
        return min(event["time"] for run in find_runs(self.runs) for event in run.metrics()) - self.began

    def killed(self, kind: str, after: float) -> Kill | None:
        """Start it, kill it after so many seconds; None if it had ended before."""
        process = self.start()
        try:
            process.wait(after)
        except subprocess.TimeoutExpired:
            pass
        else:
            return None
        os.killpg(process.pid, signal.SIGSTOP)  # starts nothing while its children are counted
        children = psutil.Process(process.pid).children(recursive=True)
        os.killpg(process.pid, signal.SIGKILL)
        if kind == "all":
            for child in children:
                child.kill()
        process.wait()
        self.ended += children
        states = [run.state() for run in find_runs(self.runs)]
        return Kill(kind, after, states.count("finished"), len(states) - states.count("finished"))

    def orphans(self) -> list[psutil.Process]:
        """Processes of killed sittings that outlive the time a worker has to save."""
        return psutil.wait_procs(self.ended, timeout=GRACE_SECONDS + 10)[1]


def overrides(model: Path, data: Path, steps: int, methods: str = METHODS, jobs: int = 2) -> list[str]:
    """smoke with the tiny model of the tests, a learning-rate search before its tested runs."""
    return [
        *("suite=smoke", "model=local", f"model.path={model}", f"data_dir={data}", "run_root=runs"),
        *("task=glue/sst2", "task.max_length=32", f"method={methods}", "selection=held_out"),
        *("trainer.learning_rate=search", "seed=0", "tuned_seeds=100,101", f"jobs={jobs}"),
        *(f"trainer.max_steps={steps}", f"trainer.evaluate_every={steps // 4}", "trainer.log_every=8"),
        *(f"trainer.checkpoint_every={steps // 12}", "trainer.keep_weights=true"),
    ]


def moments(suite: Suite, kills: int, generator: random.Random, whole: float, total: int, start: float) -> list[Kill]:
    """Kill it at random moments, spread over what is left of its work: ``whole`` seconds for ``total`` runs, of which
    ``start`` pass before the first is under way."""
    made: list[Kill] = []
    while len(made) < kills:
        left = (whole - start) * (1 - sum(run.state() == "finished" for run in find_runs(suite.runs)) / total)
        # uniform up to ``most``, so that the work expected of each sitting is an equal share of what is left
        share = left / (kills - len(made) + 1)
        most = start + share + math.sqrt(share * (share + 2 * start))
        kill = suite.killed(("all", "queue")[len(made) % 2], generator.uniform(0, most))
        if kill is None:
            break
        made.append(kill)
        print(f"kill {len(made)} of {kills}: {kill}", flush=True)
    return made


def differences(one: Path, other: Path) -> Iterator[str]:
    """What two run stores differ in, but for measured time and memory; nothing if they hold the same results."""
    first, second = ({str(run.path.relative_to(root)): run for run in find_runs(root)} for root in (one, other))
    yield from (f"{name} is only in one" for name in sorted(first.keys() ^ second.keys()))
    for name in sorted(first.keys() & second.keys()):
        a, b = first[name], second[name]
        for what in ("state", "config"):
            if getattr(a, what)() != getattr(b, what)():
                yield f"{name}: {what} {getattr(a, what)()} and {getattr(b, what)()}"
        if result_of(a) != result_of(b):
            yield f"{name}: result.json"
        if events_of(a) != events_of(b):
            yield f"{name}: metrics.jsonl"
        files, others = files_of(a.path), files_of(b.path)
        yield from (f"{name}: {file} is only in one" for file in sorted(files.keys() ^ others.keys()))
        yield from (f"{name}: {file}" for file in sorted(files.keys() & others.keys()) if files[file] != others[file])


def result_of(run: RunDirectory) -> dict[str, Any]:
    result = {key: value for key, value in (run.result() or {}).items() if key not in MEASURED}
    provenance = {key: value for key, value in result.get("provenance", {}).items() if key not in ("date", "git")}
    return {**result, "provenance": provenance}


def events_of(run: RunDirectory) -> dict[tuple[str, int], dict[str, Any]]:
    """Events by kind and step; of one written twice the later counts, as everywhere."""
    return {
        (event["event"], event["step"]): {key: value for key, value in event.items() if key not in UNTIMED}
        for event in run.metrics()
    }


def files_of(run: Path) -> dict[str, Any]:
    """Predictions, weights, what preparing found, and what only an unfinished run should have, by name.

    Of PEFT's config and safetensors only the order of their keys differs from process to process.
    """
    kept = ("predictions", "adapter", "checkpoint", "checkpoint.old", "checkpoint.new", "preparation", "layers.jsonl")
    found = [path for name in kept for path in ((run / name).rglob("*") if (run / name).is_dir() else [run / name])]
    return {str(path.relative_to(run)): content(path) for path in found if path.is_file() and path.name[0] != "."}


def content(path: Path) -> Any:
    if path.suffix == ".safetensors":
        return {name: (str(tensor.dtype), tensor.numpy().tobytes()) for name, tensor in load_file(path).items()}
    if path.name == "adapter_config.json":
        return {k: sorted(v) if isinstance(v, list) else v for k, v in json.loads(path.read_text()).items()}
    if path.name == "README.md":  # the model card gives date and seconds
        return None
    return path.read_bytes()


def report(suite: Suite) -> dict[str, bytes]:
    """Every file of the report, in a process of its own."""
    words = ["-m", "kasa_corda.report.paper", "runs", "--out", "report", "--without-measurements"]
    subprocess.run([sys.executable, *words], cwd=suite.folder, check=True, capture_output=True)
    return {path.name: path.read_bytes() for path in sorted((suite.folder / "report").iterdir())}


def main() -> None:
    from conftest import save_tiny_bert, write_tiny_glue

    chosen = harness.arguments(__doc__, kills=10, seed=1, steps=200, jobs=2)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model, data = save_tiny_bert(folder / "tiny-bert"), write_tiny_glue(folder / "data")
        words = overrides(model, data, chosen.steps, jobs=chosen.jobs)
        calm, disturbed = Suite(folder / "calm", words), Suite(folder / "disturbed", words)
        seconds = calm.complete()
        total = len(find_runs(calm.runs))
        print(f"undisturbed: {total} runs in {seconds:.1f} s; seed {chosen.seed}", flush=True)
        began = time.monotonic()
        kills = moments(disturbed, chosen.kills, random.Random(chosen.seed), seconds, total, calm.first_step())
        disturbed.complete()
        taken = time.monotonic() - began
        orphans = disturbed.orphans()
        wrong = [*differences(calm.runs, disturbed.runs)]
        pages, others = report(calm), report(disturbed)
        wrong += [
            f"report: {file}" for file in sorted(pages.keys() | others.keys()) if pages.get(file) != others.get(file)
        ]
        wrong += [f"process {process.pid} was left behind" for process in orphans]
        restarted = sum((run.status() or {}).get("attempt", 1) > 1 for run in find_runs(disturbed.runs))
    for sentence in wrong:
        print(f"different: {sentence}", flush=True)
    bytes_equal = sum(map(len, pages.values()))
    harness.Result(
        name="kill_suite",
        question=f"Is the result the same after {len(kills)} kills at random moments?",
        sides={
            "undisturbed": harness.Side("python run.py suite=smoke trainer.learning_rate=search ...", [seconds]),
            "killed": harness.Side("the same, killed and started again", [taken]),
        },
        same_answer=f"{total} runs, bit by bit (scores, losses, predictions, weights), and {len(pages)} files of the"
        f" report ({bytes_equal:,} bytes) without measurements: {len(wrong)} differences",
        ratio=seconds / taken,
        target=f"{chosen.kills} kills, no difference, no process left behind",
        holds=not wrong and len(kills) == chosen.kills,
        notes=[
            f"seed {chosen.seed}; {restarted} of the runs were started more than once",
            "kill -9: in turn everything at once, and the queue's process group alone, whose workers then notice",
            *wrong[:20],
        ],
        table=[vars(kill) for kill in kills],
    ).write(chosen.out)
    print(json.dumps({"differences": len(wrong), "kills": len(kills)}))


if __name__ == "__main__":
    main()
