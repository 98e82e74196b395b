"""One JSON file per question: two sides measured alternately in one process, checked for the same answer first."""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from kasa_corda.provenance import provenance

RESULTS = Path(__file__).parent / "results"


@dataclass
class Side:
    """What one side ran and its samples."""

    ran: str
    samples: list[float]
    unit: str = "seconds"
    """seconds or bytes"""

    @property
    def median(self) -> float:
        return statistics.median(self.samples)


@dataclass
class Result:
    """One answered question, as stored in benchmarks/results/<name>.json."""

    name: str
    question: str
    sides: dict[str, Side]
    same_answer: str
    """how equality was checked, and the figure"""
    ratio: float
    """peer / ours, so above 1 is better for us; or ours / floor where the question says so"""
    target: str
    holds: bool
    notes: list[str] = field(default_factory=list)
    table: list[dict[str, Any]] = field(default_factory=list)
    """further rows of the same measurement (ranks, shapes, models)"""
    samples: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    """row -> side -> its samples, where the rows were measured one by one; stored, not shown"""

    def write(self, results: Path = RESULTS) -> Path:
        """Store it with command, date, device and versions, print one line, and return the path."""
        about = provenance(sys.orig_argv)
        stored = {
            "name": self.name,
            "question": self.question,
            "command": shlex.join(command_line()),
            "date": about["date"],
            "device": about["device"],
            "versions": about["versions"],
            "git": about["git"],
            **{key: value for key, value in asdict(self).items() if key not in ("name", "question")},
        }
        results.mkdir(parents=True, exist_ok=True)
        path = results / f"{self.name}.json"
        path.write_text(json.dumps(stored, indent=2) + "\n", encoding="utf-8")
        verdict = "holds" if self.holds else "MISSED"
        print(f"{self.name}: ratio {self.ratio:.3g}, target {self.target}: {verdict} -> {path}", flush=True)
        return path


def command_line() -> list[str]:
    """This process's command without the interpreter's folder and without where the results go."""
    words = [Path(sys.orig_argv[0]).name, *sys.orig_argv[1:]]
    if "--out" in words:
        at = words.index("--out")
        words = words[:at] + words[at + 2 :]
    return words


def seconds(work: Callable[[], Any]) -> float:
    """Wall time of one call, with the device synchronised before and after."""
    synchronise()
    start = time.perf_counter()
    work()
    synchronise()
    return time.perf_counter() - start


def synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def alternate(
    ours: Callable[[], Any],
    peer: Callable[[], Any],
    pairs: int = 5,
    warm_up: int = 1,
    before: Callable[[], Any] = lambda: None,
) -> list[list[float]]:
    """Seconds of ``pairs`` calls of each side, taken alternately, after ``warm_up`` unmeasured calls of each.

    ``before`` runs before every call and isn't measured.
    """
    samples: list[list[float]] = [[], []]
    for turn in range(warm_up + pairs):
        for side, work in zip(samples, (ours, peer), strict=True):
            before()
            taken = seconds(work)
            if turn >= warm_up:
                side.append(taken)
    return samples


def arguments(description: str | None, **defaults: Any) -> argparse.Namespace:
    """A benchmark's command line: ``--out DIR`` and one option per keyword, typed as its default."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--out", type=Path, default=RESULTS)
    for name, default in defaults.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    return parser.parse_args()
