"""A process that makes attempts one after another, so that a hang or a crash of the interpreter costs one attempt."""

from __future__ import annotations

import multiprocessing
import os
import shutil
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import Any

from .cases import BUG, SECONDS, WAITING, Outcome, tried

GRACE = 10
"""seconds beyond an attempt's own limit before its process is killed"""
STARTING = 600
"""seconds that a process may take to start and to make its samples"""


@dataclass(frozen=True)
class Order:
    """Attempt ``number`` of a kind under a seed: enough to repeat it."""

    kind: str
    number: int
    seed: int

    @property
    def random(self) -> Random:
        return Random(f"{self.seed} {self.kind} {self.number}")


def kinds(root: Path) -> dict[str, Any]:
    """Every kind by its name; samples and scratch folders lie below ``root``."""
    from .commands import CommandLines
    from .kinds import Adapters, Caches, Checkpoints, DataFiles, Exchanged, ModelParts, Models, RunFiles, Trained
    from .samples import Samples

    classes = (CommandLines, DataFiles, Models, ModelParts, Adapters, Exchanged, Caches, RunFiles, Trained, Checkpoints)
    return {one.name: one(Samples(root / "samples"), root / "scratch" / str(os.getpid())) for one in classes}


def isolated(root: Path) -> None:
    """An empty working folder and a cache of this run's own; no network."""
    os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "CUDA_VISIBLE_DEVICES": ""}
    os.environ |= {"KASA_CORDA_CACHE": str(root / "cache"), "HF_HOME": str(root / "hub"), "COLUMNS": "100"}
    os.environ.pop("KASA_CORDA_DATA", None)
    (root / "empty").mkdir(parents=True, exist_ok=True)
    os.chdir(root / "empty")


def attempted(kind: Any, order: Order) -> Outcome:
    outcome = tried(order.kind, kind.attempt(order.number, order.random))
    shutil.rmtree(kind.scratch, ignore_errors=True)
    return outcome


def serve(root: Path, connection: Connection) -> None:
    """Say that the samples are there, then answer orders with outcomes until None comes."""
    isolated(root)
    found = kinds(root)
    for kind in found.values():
        kind.attempt(0, Random(0))  # its samples are made
    connection.send({name: kind.hand_made() for name, kind in found.items()})
    while (order := connection.recv()) is not None:
        connection.send(attempted(found[order.kind], order))


class Worker:
    """``serve`` in another process, which is started again when it has to be ended."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.start()

    def start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(self.root, theirs), daemon=True)
        self.process.start()
        theirs.close()
        self.hand_made: dict[str, int] = self._answer(STARTING)

    def make(self, order: Order) -> Outcome:
        self.connection.send(order)
        try:
            return self._answer(WAITING * SECONDS + GRACE)
        except (EOFError, TimeoutError, OSError) as error:
            self.end()
            self.start()
            code = self.process.exitcode
            return Outcome(order.kind, f"number {order.number}", BUG, f"the process was lost: {error!r}, code {code}")

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        shutil.rmtree(self.root / "scratch", ignore_errors=True)

    def _answer(self, seconds: float) -> Any:
        if not self.connection.poll(seconds):
            raise TimeoutError(f"no answer within {seconds:g} s")
        return self.connection.recv()
