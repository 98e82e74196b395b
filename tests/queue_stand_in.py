"""The queue's worker with a stand-in for the pipeline, which would load torch and a model.

What a run does is the label of its method: steps separated by short waits, failures, the end of the process.
"""

from __future__ import annotations

import os
import sys
import time
import types
from pathlib import Path
from typing import Any

from kasa_corda.errors import KasaCordaError
from kasa_corda.interrupt import Interrupted, StopRequest

PIPELINE = "kasa_corda.pipeline"


def run(config: Any, directory: Any, command: list[str]) -> dict[str, Any]:
    """Seconds of each step are in trainer.epochs, their number in trainer.max_steps."""
    label, folder = config.method.label, directory.path
    first = not (folder / "tried").exists()
    (folder / "tried").touch()
    print(f"a line of {label} seed {config.seed}")
    if label == "out of memory" and config.trainer.accumulation < 2:
        raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
    if label == "wrong":
        raise KasaCordaError("the loss became nan at step 3")
    if label == "connection" and first:
        raise ConnectionResetError(104, "Connection reset by peer")
    if label == "dies" or (label == "dies once" and first):
        os._exit(7)
    done = folder / "step"
    step = int(done.read_text()) if done.exists() else 0
    with StopRequest(print) as stop:
        while step < config.trainer.max_steps:
            if label != "deaf":
                time.sleep(config.trainer.epochs)
            else:
                time.sleep(1000)
            step += 1
            directory.append_metrics({"event": "train", "step": step, "epoch": step / 10})
            if stop.requested:
                done.write_text(str(step))  # the checkpoint
                raise Interrupted(f"stopped after step {step}")
    result = {"run_id": directory.run_id, "notes": [], "accumulation": config.trainer.accumulation}
    result |= {"pid": os.getpid(), "gpu": os.environ["CUDA_VISIBLE_DEVICES"], "began_at": step, "command": command}
    result["threads"] = os.environ["OMP_NUM_THREADS"]
    directory.write_result(result)
    return result


def install() -> None:
    stand_in = types.ModuleType(PIPELINE)
    stand_in.run = run  # type: ignore[attr-defined]
    sys.modules[PIPELINE] = stand_in
    import kasa_corda
    from kasa_corda import launch

    kasa_corda.pipeline = stand_in  # type: ignore[attr-defined]
    launch.run_processes = run  # of several GPUs


def sweep(root: Path, labels: list[str]) -> None:
    """A queue in a process of its own, to be killed: ``queue_stand_in.py ROOT LABEL ...``."""
    from test_queue import job

    from kasa_corda.queue import process, run

    process.WORKER = (sys.executable, __file__)
    run([job(root, label, steps=400) for label in labels], devices=[], per_device=len(labels))


if __name__ == "__main__":
    install()
    if len(sys.argv) > 1:
        sweep(Path(sys.argv[1]), sys.argv[2:])
    from kasa_corda.queue.worker import main

    code = main()
    os._exit(code)
