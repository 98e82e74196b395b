"""From a composed config to a finished run directory: reuse, resume, or start (in this process or several)."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from .budget import settle
from .config import RunConfig, run_id
from .config.validate import typed, validate
from .errors import DIVERGED, ConfigError, Diverged, KasaCordaError
from .escaping import printable
from .interrupt import Interrupted
from .privacy import public_text
from .store import RunDirectory, write_atomically

PR_SET_PDEATHSIG = 1
SAVING_SECONDS = 60
"""that the processes of a run have to save and stop"""


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


def launch(
    config: RunConfig, directory: RunDirectory, command: list[str], accumulation: int | None = None, patience: float = 0
) -> dict[str, Any]:
    """The result of this run, from disk if it is finished, else by running it.

    ``accumulation`` replaces trainer.accumulation where its micro-batches did not fit into memory: the same run in
    smaller pieces, so its id and its config.yaml stay those that were asked for. ``patience``: seconds to wait for
    another process that is at it; what it finishes meanwhile is the result.
    """
    if not config.force and directory.state() == "finished" and (result := directory.result()):
        return result
    with directory.lock(patience):
        if not config.force and directory.state() == "finished" and (result := directory.result()):
            return result
        if config.force or not config.resume:
            directory.forget()
        directory.write_config(dataclasses.asdict(config))
        smaller = {} if accumulation in (None, config.trainer.accumulation) else {"accumulation": accumulation}
        with recorded(directory, **smaller):
            check_precision(config)
            actual = accumulating(config, accumulation or config.trainer.accumulation)
            if config.scale.devices == 1:
                from .pipeline import run

                run(actual, directory, command)
            else:
                run_processes(actual, directory, command)
            if smaller and (result := directory.result()):
                note = f"trainer.accumulation={accumulation}: {config.trainer.accumulation} did not fit into memory"
                directory.write_result({**result, "notes": [*result.get("notes", []), note]})
    result = directory.result()
    assert result is not None
    return result


def accumulating(config: RunConfig, accumulation: int) -> RunConfig:
    """The config with another number of micro-batches per step."""
    return dataclasses.replace(config, trainer=dataclasses.replace(config.trainer, accumulation=accumulation))


OUT_OF_MEMORY = ("out of memory", "not enough memory", "can't allocate memory", "cannot allocate memory")
"""how CUDA, torch on a CPU and the system say it"""


@contextmanager
def recorded(directory: RunDirectory, **details: Any) -> Iterator[None]:
    """status.json says running, then how it ended; an unexpected error leaves its traceback in error.log.

    ``details`` stand in every status.
    """
    directory.write_status("running", **details)
    try:
        yield
    except (Interrupted, KeyboardInterrupt, SystemExit) as stop:  # SystemExit: Slurm queues the job again
        directory.write_status("interrupted", **details, error=str(stop))
        if isinstance(stop, SystemExit):
            raise
        raise Interrupted(f"{stop or 'stopped'}; run the same command again to go on ({directory.path})") from None
    except Diverged as error:
        directory.write_status("failed", **details, error=str(error), diverged=True)
        raise
    except KasaCordaError as error:
        directory.write_status("failed", **details, error=str(error))
        raise
    except Exception as error:
        write_atomically(directory.path / "error.log", printable(public_text(traceback.format_exc())))
        message = explain_crash(error)
        directory.write_status("failed", **details, error=message)
        raise KasaCordaError(f"{message} (traceback: {directory.path / 'error.log'})") from error
    directory.write_status("finished", **details)


def explain_crash(error: Exception) -> str:
    """One line for an unexpected error; what to do for the common one."""
    first = str(error).strip().split("\n")[0]
    if isinstance(error, MemoryError) or any(text in first.lower() for text in OUT_OF_MEMORY):
        return (
            "out of memory; the same result needs less with trainer.accumulation=2 (or more), "
            "trainer.gradient_checkpointing=true or a smaller evaluator.batch_size"
        )
    return printable(f"{type(error).__name__}: {first}")


def run_processes(config: RunConfig, directory: RunDirectory, command: list[str]) -> None:
    """Run with ``scale.devices`` processes; they read config.yaml and never import Hydra."""
    given = [str(directory.path), str(config.trainer.accumulation), "--", *command]
    arguments = [*launcher(config.scale.devices), "-m", "kasa_corda.worker", *given]
    environment = {**os.environ, "OMP_NUM_THREADS": _threads(config)}
    if not _has_gpu():
        environment["ACCELERATE_USE_CPU"] = "true"
    code = waited_for(arguments, environment)
    if code:
        told = directory.path / "error.txt"
        if told.exists():
            text = told.read_text().strip()
            raise Diverged(text) if text.startswith(DIVERGED) else KasaCordaError(text)
        raise KasaCordaError(f"the worker processes ended with exit code {code}")


def waited_for(arguments: list[str], environment: dict[str, str]) -> int:
    """The exit code of a launcher of processes. One interruption is passed on, so that they save; a second kills."""
    process = subprocess.Popen(arguments, env=environment, start_new_session=True, preexec_fn=ending_with_parent())
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.terminate()
        try:
            process.wait(timeout=SAVING_SECONDS)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        raise


def ending_with_parent() -> Callable[[], None] | None:
    """What a child calls before it starts, so that Linux tells it to terminate when its parent is gone."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl  # found here: little is safe between fork and exec
    return lambda: prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


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
