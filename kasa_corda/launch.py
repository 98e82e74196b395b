"""From a composed config to a finished run directory: reuse, resume, or start (in this process or several)."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .budget import settle
from .config import RunConfig, run_id
from .config.validate import typed, validate
from .errors import ConfigError, KasaCordaError
from .interrupt import Interrupted
from .store import RunDirectory


def prepare(plain: dict[str, Any]) -> tuple[RunConfig, RunDirectory]:
    """Check a resolved config completely and name its run directory; nothing is loaded or written."""
    from .evaluation.forgetting import requested
    from .models.local import complete
    from .tasks._further import completed

    plain = requested({**plain, "model": complete(plain["model"]), "task": completed(plain["task"])})
    config = typed(plain)
    settle(config)
    validate(config)
    plain = dataclasses.asdict(config)
    return config, RunDirectory.of(plain, run_id(plain))


def launch(config: RunConfig, directory: RunDirectory, command: list[str]) -> dict[str, Any]:
    """The result of this run, from disk if it is finished, else by running it."""
    if not config.force and directory.state() == "finished" and (result := directory.result()):
        return result
    with directory.lock():
        if config.force or not config.resume:
            directory.forget()
        directory.write_config(dataclasses.asdict(config))
        with recorded(directory):
            check_precision(config)
            if config.scale.devices == 1:
                from .pipeline import run

                run(config, directory, command)
            else:
                run_processes(config, directory, command)
    result = directory.result()
    assert result is not None
    return result


@contextmanager
def recorded(directory: RunDirectory) -> Iterator[None]:
    """status.json says running, then how it ended; an unexpected error leaves its traceback in error.log."""
    directory.write_status("running")
    try:
        yield
    except (Interrupted, KeyboardInterrupt) as stop:
        directory.write_status("interrupted", error=str(stop))
        raise Interrupted(f"{stop or 'stopped'}; run the same command again to go on ({directory.path})") from None
    except KasaCordaError as error:
        directory.write_status("failed", error=str(error))
        raise
    except Exception as error:
        (directory.path / "error.log").write_text(traceback.format_exc(), encoding="utf-8")
        message = explain_crash(error)
        directory.write_status("failed", error=message)
        raise KasaCordaError(f"{message} (traceback: {directory.path / 'error.log'})") from error
    directory.write_status("finished")


def explain_crash(error: Exception) -> str:
    """One line for an unexpected error; what to do for the common one."""
    first = str(error).strip().split("\n")[0]
    if "out of memory" in first.lower():
        return (
            "out of memory; the same result needs less with trainer.accumulation=2 (or more), "
            "trainer.gradient_checkpointing=true or a smaller evaluator.batch_size"
        )
    return f"{type(error).__name__}: {first}"


def run_processes(config: RunConfig, directory: RunDirectory, command: list[str]) -> None:
    """Run with ``scale.devices`` processes; they read config.yaml and never import Hydra."""
    arguments = [*launcher(config.scale.devices), "-m", "kasa_corda.worker", str(directory.path), "--", *command]
    environment = {**os.environ, "OMP_NUM_THREADS": _threads(config)}
    if not _has_gpu():
        environment["ACCELERATE_USE_CPU"] = "true"
    done = subprocess.run(arguments, check=False, env=environment)
    if done.returncode:
        told = directory.path / "error.txt"
        if told.exists():
            raise KasaCordaError(told.read_text().strip())
        raise KasaCordaError(f"the worker processes ended with exit code {done.returncode}")


def launcher(processes: int) -> list[str]:
    """The command that starts as many processes of one machine: accelerate's, but torch's where there is no GPU, on
    which accelerate starts a single one."""
    if not _has_gpu():
        return [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    settings = {"num_processes": processes, "num_machines": 1, "mixed_precision": "no", "dynamo_backend": "no"}
    settings["main_process_port"] = 0
    options = [text for key, value in settings.items() for text in (f"--{key}", str(value))]
    return [sys.executable, "-m", "accelerate.commands.launch", *options]


def check_precision(config: RunConfig) -> None:
    """ConfigError if this machine can't compute in the chosen precision (only known once torch is imported)."""
    if config.trainer.precision == "fp16" and not _has_gpu():
        raise ConfigError("trainer.precision=fp16 needs a GPU, which this machine lacks; use bf16 or fp32")


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _threads(config: RunConfig) -> str:
    return str(config.scale.threads or max(1, (os.cpu_count() or 1) // config.scale.devices))
