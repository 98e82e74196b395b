"""Training state on disk: safetensors and JSON only, replaced atomically.

Only what training changes is stored (adapter, head, optimizer moments, schedule, random state), so a
checkpoint of a 7B run is as small as its adapter.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from .errors import KasaCordaError
from .memory import ran_out_of_memory
from .store import replace_directory, write_atomically

Tensors = dict[str, torch.Tensor]


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> Tensors:
    """The optimizer's per-parameter state as 'index.key' (or 'name.key') tensors."""
    state = optimizer.state_dict()["state"]
    return {f"{i}.{key}": torch.as_tensor(v) for i, entry in state.items() for key, v in entry.items()}


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Tensors) -> None:
    """Put ``optimizer_tensors`` back; the parameter groups stay as they are.

    State is kept by the parameter's index, or by its name (PEFT's LoRA-FA), which torch neither casts nor moves.
    """
    device = optimizer.param_groups[0]["params"][0].device
    state: dict[int | str, dict[str, Any]] = {}
    for name, tensor in tensors.items():
        parameter, key = name.rsplit(".", 1)
        if parameter.isdecimal():
            state.setdefault(int(parameter), {})[key] = tensor
        else:
            whole = tensor.dim() == 0 and not tensor.is_floating_point()  # a count of steps, an int in Python
            state.setdefault(parameter, {})[key] = tensor.item() if whole else tensor.to(device)
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def random_state() -> tuple[Tensors, Any]:
    """Generator states of torch (CPU and all GPUs) and of Python."""
    tensors = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        tensors |= {f"cuda.{i}": state for i, state in enumerate(torch.cuda.get_rng_state_all())}
    return tensors, random.getstate()


def restore_random_state(tensors: Tensors, python: Any) -> None:
    torch.set_rng_state(tensors["cpu"])
    for name, state in tensors.items():
        if name.startswith("cuda."):
            torch.cuda.set_rng_state(state, int(name.split(".")[1]))
    version, internal, gauss = python
    random.setstate((version, tuple(internal), gauss))


class CheckpointFolder:
    """``checkpoint/`` of a run. The last good one stays until the next one is complete."""

    def __init__(self, run: Path) -> None:
        self.path = run / "checkpoint"
        self.building = run / "checkpoint.new"

    def exists(self) -> bool:
        return self._current() is not None

    def save(self, groups: dict[str, Tensors], progress: dict[str, Any], rank: int, wait: Any) -> None:
        """Write ``groups`` (one safetensors file each) and ``progress`` (JSON); every rank adds its random state.

        ``wait`` is a barrier over all ranks.
        """
        if rank == 0:
            shutil.rmtree(self.building, ignore_errors=True)
            self.building.mkdir(parents=True)
        wait()
        tensors, python = random_state()
        save_file(tensors, self.building / f"random_{rank}.safetensors")
        write_atomically(self.building / f"random_{rank}.json", json.dumps(python))
        if rank == 0:
            for name, group in groups.items():
                save_file(
                    {k: t.detach().contiguous().cpu() for k, t in group.items()}, self.building / f"{name}.safetensors"
                )
            write_atomically(self.building / "progress.json", json.dumps(progress))
        wait()
        if rank == 0:
            replace_directory(self.building, self.path)
        wait()

    def load(self, rank: int) -> tuple[dict[str, Tensors], dict[str, Any]]:
        """Groups and progress of the last good checkpoint; the random state of this rank is restored."""
        folder = self._current()
        if folder is None:
            raise KasaCordaError(f"{self.path} does not exist")
        try:
            progress = json.loads((folder / "progress.json").read_text())
            groups = {file.stem: load_file(file) for file in folder.glob("*.safetensors") if "random_" not in file.name}
            python = json.loads((folder / f"random_{rank}.json").read_text())
            restore_random_state(load_file(folder / f"random_{rank}.safetensors"), python)
        except FileNotFoundError as error:
            raise KasaCordaError(
                f"checkpoint {folder} lacks {Path(error.filename or 'a file').name}; rerun with resume=false"
            ) from None
        except Exception as error:
            raise KasaCordaError(f"checkpoint {folder} is damaged ({error}); rerun with resume=false") from None
        return groups, progress

    @contextmanager
    def fitting(self) -> Iterator[None]:
        """Around putting back what ``load`` gave: KasaCordaError if it isn't what this run would have saved."""
        try:
            yield
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError, RuntimeError) as error:
            if ran_out_of_memory(error):
                raise
            raise KasaCordaError(
                f"checkpoint {self._current() or self.path} doesn't fit this run ({type(error).__name__}:"
                f" {str(error).splitlines()[0] if str(error) else ''}); rerun with resume=false"
            ) from None

    def remove(self) -> None:
        for folder in (self.path, self.path.with_name("checkpoint.old"), self.building):
            (folder / "progress.json").unlink(missing_ok=True)  # first: half a checkpoint must not look like one
            shutil.rmtree(folder, ignore_errors=True)

    def _current(self) -> Path | None:
        for folder in (self.path, self.path.with_name("checkpoint.old")):
            if (folder / "progress.json").exists():
                return folder
        return None
