"""One run, top to bottom: load, adapt, fit, evaluate, write the result."""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs

from .card import write_card
from .checkpoint import CheckpointFolder
from .config import RunConfig
from .errors import DataError
from .evaluation import EVALUATORS
from .evaluation.base import Evaluation
from .methods import METHODS, Method
from .methods.base import AdaptContext, count_parameters
from .models.architecture import match_targets
from .models.loading import load_model
from .progress import Progress
from .provenance import provenance
from .seeds import seed_everything
from .store import RunDirectory
from .tasks import TASKS, TaskData
from .trackers import start_tracker
from .training import FitProgress, Trainer, total_steps


def run(config: RunConfig, directory: RunDirectory, command: list[str]) -> dict[str, Any]:
    """Execute one validated run and return its result (the content of result.json)."""
    set_threads(config)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    seconds = Stopwatch()
    accelerator = start_accelerator(config)
    screen = Progress(show=accelerator.is_main_process)

    with seconds("data"):
        task = TASKS[config.task.family](config.task)
        data = task.load(data_folder(config), config.selection)
        check_not_empty(data)
        screen.say(f"task {config.task.name}: {counts_text(data)} from {data.source}")
    with seconds("load"):
        seed_everything(config.seed)
        loaded = load_model(asdict(config.model), task.num_labels, config.task.kind)
        screen.say(f"model {config.model.name} from {loaded.source}")
    with seconds("data"):
        encoded = task.encode(data.train, loaded.tokenizer)
    with seconds("adapt"):
        method = METHODS[config.method.name](config.method)
        context = adapt_context(config, method, loaded.head, total_steps(config.trainer, len(encoded)))
        method.prepare(loaded.model, context)
        seed_everything(config.seed)
        model = method.adapt(loaded.model, context).to(accelerator.device)
        parameters = count_parameters(model, loaded.head)
        screen.say(
            f"method {config.method.name}: {parameters['trainable']:,} of {parameters['total']:,} parameters train"
        )

    evaluator = EVALUATORS[config.evaluator.name](config.evaluator)

    def evaluate(split: list[Any]) -> Evaluation:
        with seconds("evaluate"):
            return evaluator.evaluate(model, loaded.tokenizer, task, split, screen)

    tracker = start_tracker(config.tracker, directory, asdict(config)) if accelerator.is_main_process else None

    def log(event: dict[str, Any]) -> None:
        if accelerator.is_main_process:
            directory.append_metrics(event)
        if tracker is not None:
            tracker.log(curves(event), step=event["step"])

    trainer = Trainer(
        config.trainer,
        method,
        model,
        encoded,
        loaded.tokenizer,
        accelerator=accelerator,
        head=loaded.head,
        seed=config.seed,
        metric=config.task.metric,
        evaluate=lambda: evaluate(data.select).scores,
        log=log,
        checkpoints=CheckpointFolder(directory.path),
        progress=screen,
    )
    fitted = trainer.fit(resume=config.resume)
    last = evaluate_test(task, data, evaluate)
    method.restore(model, trainer.best)
    best = last if fitted.best == fitted.last else evaluate_test(task, data, evaluate)

    result = {
        "run_id": directory.run_id,
        **described(config),
        "best": moment(fitted, "best", task.combine({k: e.scores for k, e in best.items()})),
        "last": moment(fitted, "last", task.combine({k: e.scores for k, e in last.items()})),
        "parameters": parameters,
        "seconds": seconds.total() | {"fit": fitted.seconds},
        "peak_memory_bytes": peak_memory(),
        "throughput": {
            "examples_per_second": fitted.examples / max(fitted.seconds, 1e-9),
            "tokens_per_second": fitted.tokens / max(fitted.seconds, 1e-9),
        },
        "loss": fitted.loss,
        "model_source": {
            "source": loaded.source,
            "fingerprint": loaded.fingerprint,
            "approximation": config.model.approximation,
        },
        "data": {
            "source": data.source,
            "fingerprint": data.fingerprint,
            "counts": {name: len(split) for name, split in data.splits().items()},
            "truncated": task.truncated,
        },
        "notes": [*loaded.notes, *data.notes],
        "provenance": provenance(command),
    }
    if accelerator.is_main_process:
        if config.evaluator.save_predictions:
            for split, evaluation in best.items():
                directory.write_predictions(split, evaluation.rows)
            for split, evaluation in last.items():
                directory.write_predictions(f"{split}_last", evaluation.rows)
        method.save(accelerator.unwrap_model(trainer.model), directory.path / "adapter", base_name(config))
        write_card(directory.path / "adapter", result, asdict(config))
        directory.write_result(result)
    if tracker is not None:
        tracker.log({f"test/{k}": v for k, v in result["best"]["test"].items()}, step=fitted.step)
        tracker.finish()
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        trainer.checkpoints.remove()
    return result


def start_accelerator(config: RunConfig) -> Accelerator:
    precision = {"fp32": "no"}.get(config.trainer.precision, config.trainer.precision)
    return Accelerator(
        mixed_precision=precision,
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=False)],
    )


def set_threads(config: RunConfig) -> None:
    """CPU threads of this process; parallel cells share the cores (KASA_CORDA_THREADS is set by the sweep)."""
    threads = config.scale.threads or int(os.environ.get("KASA_CORDA_THREADS", 0))
    if threads:
        torch.set_num_threads(threads)


def data_folder(config: RunConfig) -> Path | None:
    """``data_dir``, or KASA_CORDA_DATA, or None; DataError if the folder is not there."""
    chosen = config.data_dir or os.environ.get("KASA_CORDA_DATA")
    if not chosen:
        return None
    folder = Path(chosen).expanduser()
    if not folder.is_dir():
        origin = "data_dir" if config.data_dir else "KASA_CORDA_DATA"
        raise DataError(f"{origin}={chosen} is not a folder")
    return folder


def adapt_context(config: RunConfig, method: Method, head: list[str], steps: int) -> AdaptContext:
    """What the method may know of this run."""
    targets = match_targets(asdict(config.model), config.method.target_modules) if method.adapts_layers else {}
    return AdaptContext(list(targets), head, "SEQ_CLS", config.seed, steps)


def check_not_empty(data: TaskData) -> None:
    for name, split in data.splits().items():
        if not split:
            raise DataError(f"the {name} split from {data.source} is empty")


def counts_text(data: TaskData) -> str:
    return ", ".join(f"{len(split):,} {name}" for name, split in data.splits().items())


def evaluate_test(task: Any, data: TaskData, evaluate: Any) -> dict[str, Evaluation]:
    return {name: evaluate(split) for name, split in data.test.items()}


def described(config: RunConfig) -> dict[str, Any]:
    """The part of a result that says what was run."""
    return {
        "task": config.task.name,
        "model": config.model.name,
        "method": config.method.name,
        "label": config.method.label or config.method.name,
        "variant": getattr(config.method, "variant", None),
        "seed": config.seed,
        "selection": config.selection,
        "scale": config.scale.name,
        "metric": config.task.metric,
        "higher_is_better": True,
    }


def moment(fitted: FitProgress, which: str, test: dict[str, float]) -> dict[str, Any]:
    return {**asdict(getattr(fitted, which)), "test": test}


def base_name(config: RunConfig) -> str:
    """What PEFT should load the adapter onto: the hub id where it names the same weights, else the local folder."""
    model = config.model
    if model.path:
        return str(Path(model.path).expanduser().resolve())
    return model.hub_id if model.hub_id and not model.approximation else model.name


def curves(event: dict[str, Any]) -> dict[str, float]:
    """The numbers of an event, named for a tracker."""
    if event["event"] == "evaluate":
        return {f"select/{name}": value for name, value in event["select"].items()}
    return {f"train/{k}": v for k, v in event.items() if isinstance(v, int | float) and k != "step"}


def peak_memory() -> dict[str, int | None]:
    """Highest memory so far in bytes: of this process, and allocated on its GPU."""
    unit = 1 if sys.platform == "darwin" else 1024
    host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    device = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None
    return {"host": host, "device": device}


class Stopwatch:
    """Seconds per named phase."""

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.phases: dict[str, float] = dict.fromkeys(("load", "data", "prepare", "adapt", "fit", "evaluate"), 0.0)

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.phases[phase] += time.perf_counter() - start

    def total(self) -> dict[str, float]:
        return {**self.phases, "total": time.perf_counter() - self.began}
