"""Every method gives the same training on two processes, and on a batch in two parts, as on one process at once."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from method_cases import Case, cases
from safetensors.torch import load_file

HERE = Path(__file__).resolve().parent
TOLERANCE = 1e-5
"""of trained parameters that moved by some 1e-2"""
pytestmark = [pytest.mark.heavy, pytest.mark.xdist_group("distributed")]
every = pytest.mark.parametrize("case", cases(), ids=str)


@dataclass
class Trained:
    """What the processes wrote."""

    states: dict[str, dict[str, torch.Tensor]] = field(default_factory=dict)
    """whole, halves, first and second -> "case/parameter" -> its value after the steps"""
    errors: dict[str, str] = field(default_factory=dict)

    def of(self, kind: str, case: Case) -> dict[str, torch.Tensor]:
        failed = [text for name, text in self.errors.items() if name.startswith(f"{kind} {case} ")]
        assert not failed, failed[0]
        prefix = f"{case}/"
        return {n.removeprefix(prefix): t for n, t in self.states[kind].items() if n.startswith(prefix)}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """All cases once alone (the batch whole, then in halves) and once on two processes; three processes in all."""
    root = tmp_path_factory.mktemp("distributed")
    (root / "one").mkdir()
    (root / "two").mkdir()
    started = [start(root / "one", "1", "2"), *start_two(root / "two", "1")]
    for process in started:
        _, complaints = process.communicate(timeout=1800)
        assert process.returncode == 0, complaints[-4000:]
    files = {"whole": "one/rank0_accumulation1", "halves": "one/rank0_accumulation2"}
    files |= {"first": "two/rank0_accumulation1", "second": "two/rank1_accumulation1"}
    found = Trained({kind: load_file(root / f"{file}.safetensors") for kind, file in files.items()})
    for kind, file, accumulation in (
        ("whole", "one/errors_rank0", 1),
        ("halves", "one/errors_rank0", 2),
        ("first", "two/errors_rank0", 1),
        ("second", "two/errors_rank1", 1),
    ):
        errors = json.loads((root / f"{file}.json").read_text())
        found.errors |= {f"{kind} {name}": e for name, e in errors.items() if name.endswith(f" {accumulation}")}
    return found


def start(out: Path, *accumulations: str, **environment: str) -> subprocess.Popen:
    paths = os.pathsep.join([str(HERE), str(HERE.parent)])
    known = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", **environment}
    command = [sys.executable, str(HERE / "distributed_steps.py"), str(out), *accumulations]
    return subprocess.Popen(command, env=known, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def start_two(out: Path, *accumulations: str) -> list[subprocess.Popen]:
    """Two processes of one gloo group on this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "ACCELERATE_USE_CPU": "true"}
    return [start(out, *accumulations, **shared, RANK=str(rank), LOCAL_RANK=str(rank)) for rank in range(2)]


def apart(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> float:
    """The largest difference of two trained states of the same parameters."""
    assert first.keys() == second.keys()
    return max(
        (float((first[n].float() - second[n].float()).abs().max()) for n in first if first[n].numel()), default=0.0
    )


@every
def test_the_steps_move_the_parameters_far_more_than_the_tolerance(case: Case, trained: Trained) -> None:
    adapted = case.adapted()
    before = {name: tensor.clone() for name, tensor in adapted.method.trained_state(adapted.model).items()}
    after = trained.of("whole", case)
    assert apart(before, {name: after[name] for name in before}) > 100 * TOLERANCE


@every
def test_two_processes_train_as_one_with_the_same_batch(case: Case, trained: Trained) -> None:
    assert apart(trained.of("first", case), trained.of("whole", case)) <= TOLERANCE


@every
def test_both_processes_end_with_the_same_parameters(case: Case, trained: Trained) -> None:
    assert apart(trained.of("first", case), trained.of("second", case)) == 0


@every
def test_a_batch_in_halves_trains_as_the_whole(case: Case, trained: Trained) -> None:
    assert apart(trained.of("halves", case), trained.of("whole", case)) <= TOLERANCE
