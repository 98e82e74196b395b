"""One run, top to bottom: load, adapt, fit, evaluate, write the result."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs

from .batches import training_batches
from .budget import choice_of
from .calibration.request import FOLDER, calibration_for, remove_preparation
from .card import write_card
from .checkpoint import CheckpointFolder
from .config import RunConfig
from .data import counts_text, load_data
from .deterministic import set_deterministic
from .evaluation import EVALUATORS
from .evaluation.base import Evaluation, WithinRun
from .evaluation.forgetting import before_training
from .evaluation.journal import Journal, remove_journals
from .fitted import FitProgress, Moment
from .measure import Stopwatch, reset_peak_memory
from .methods import METHODS, Method
from .methods.base import AdaptContext, count_parameters
from .models.architecture import match_targets
from .models.families import architecture_of
from .models.loading import LoadedModel, load_model
from .nonfinite import FILE as INSPECTED
from .nonfinite import batch_log
from .progress import Progress
from .queue.shared import preparing
from .result import Outcome, result_of
from .seeds import seed_everything
from .store import PREDICTIONS, RunDirectory, follow_umask
from .tasks import Task, TaskData
from .trackers import start_tracker
from .training import Trainer, total_steps

if TYPE_CHECKING:
    from accelerate.tracking import GeneralTracker


@dataclass
class Parts:
    """Everything a run trains and evaluates with."""

    task: Task
    data: TaskData
    encoded: list[dict[str, Any]]
    """the training examples as tokens"""
    loaded: LoadedModel
    method: Method
    model: torch.nn.Module
    """the adapted model, on its device"""
    parameters: dict[str, int]
    before: dict[str, Evaluation]
    """the base model's scores on the tasks of evaluator.forgetting"""


@dataclass
class Place:
    """Where a run happens: its processes, its screen, its clock."""

    accelerator: Accelerator
    screen: Progress
    seconds: Stopwatch

    @property
    def writes(self) -> bool:
        """Whether this process is the one that writes files."""
        return self.accelerator.is_main_process


def run(config: RunConfig, directory: RunDirectory, command: list[str]) -> dict[str, Any]:
    """Execute one validated run and return its result (the content of result.json)."""
    place = start(config)
    EVALUATORS[config.evaluator.name](config.evaluator).ready(config.task)
    parts = assemble(config, directory, place)
    evaluate = evaluation(config, directory, parts, place)
    if not parts.method.trains:
        return only_evaluated(config, directory, parts, evaluate, place, command)
    tracker = start_tracker(config.tracker, directory, asdict(config)) if place.writes else None
    trainer = Trainer(
        config.trainer,
        parts.method,
        parts.model,
        parts.encoded,
        parts.loaded.tokenizer,
        accelerator=place.accelerator,
        head=parts.loaded.head,
        seed=config.seed,
        metric=parts.task.select_metric,
        evaluate=lambda: evaluate(parts.data.select, only=parts.task.select_metric).scores,
        log=logger(directory, tracker, place),
        checkpoints=CheckpointFolder(directory.path),
        progress=place.screen,
        inspect=batch_log(directory.path / INSPECTED, [example.id for example in parts.data.train]),
    )
    fitted = trainer.fit(resume=config.resume)
    assert fitted.best and fitted.last
    tests = parts.data.test if config.evaluator.test else {}
    last = {n: evaluate(split, kept=(f"{n}_last", f"last, {fitted.last.step}")) for n, split in tests.items()}
    parts.method.restore(parts.model, trainer.best)
    best = last
    if fitted.best != fitted.last:
        best = {n: evaluate(split, kept=(n, f"best, {fitted.best.step}")) for n, split in tests.items()}

    outcome = Outcome(fitted, best, last, parts.before)
    result = {"run_id": directory.run_id, **result_of(config, parts, outcome, place.seconds, command)}
    if place.writes:
        write(config, directory, parts.method, place.accelerator.unwrap_model(trainer.model), outcome, result)
    if tracker is not None:
        tracker.log({f"test/{k}": v for k, v in result["best"]["test"].items()}, step=fitted.step)
        tracker.finish()
    place.accelerator.wait_for_everyone()
    if place.writes:
        trainer.checkpoints.remove()
        remove_preparation(directory.path)
        remove_journals(directory.path / PREDICTIONS)
    return result


def only_evaluated(
    config: RunConfig,
    directory: RunDirectory,
    parts: Parts,
    evaluate: Callable[..., Evaluation],
    place: Place,
    command: list[str],
) -> dict[str, Any]:
    """Evaluate a model that nothing trains, and write and return its result."""
    test = {name: evaluate(split, kept=(name, "untrained")) for name, split in parts.data.test.items()}
    now = Moment(0, 0.0, {})
    outcome = Outcome(FitProgress(best=now, last=now), test, test, parts.before)
    result = {"run_id": directory.run_id, **result_of(config, parts, outcome, place.seconds, command)}
    if place.writes:
        write_predictions(config, directory, outcome)
        directory.write_result(result)
        remove_journals(directory.path / PREDICTIONS)
    place.accelerator.wait_for_everyone()
    return result


def start(config: RunConfig) -> Place:
    """Threads, memory counters and processes of this run."""
    threads = config.scale.threads or int(os.environ.get("KASA_CORDA_THREADS", 0))  # the sweep shares out the cores
    if threads:
        torch.set_num_threads(threads)
    set_deterministic(config.deterministic)
    reset_peak_memory()
    seconds = Stopwatch()
    accelerator = Accelerator(
        mixed_precision={"fp32": "no"}.get(config.trainer.precision, config.trainer.precision),
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=False)],
    )
    return Place(accelerator, Progress(show=accelerator.is_main_process), seconds)


def assemble(config: RunConfig, directory: RunDirectory, place: Place) -> Parts:
    """Load task and model, and turn the model into the one to train."""
    seconds, screen = place.seconds, place.screen
    with seconds("data"):
        task, data = load_data(config)
        screen.say(f"task {config.task.name}: {counts_text(data)} from {data.source}")
        method = METHODS[config.method.name](config.method)
        calibration = calibration_for(config, method, task, data, place.accelerator.device, directory.path, screen)
    with seconds("load"):
        seed_everything(config.seed)
        loaded = load_model(asdict(config.model), task.num_labels, config.task.kind)
        screen.say(f"model {config.model.name} from {loaded.source}")
    with seconds("evaluate"):
        before = before_training(config, task, data, loaded, place.accelerator, screen)
    with seconds("data"):
        encoded = task.encode(data.train, loaded.tokenizer) if method.trains else []
    context = adapt_context(config, method, loaded.head, total_steps(config.trainer, len(encoded)), loaded.fresh)
    batches = training_batches(encoded, loaded.tokenizer, config.seed, place.accelerator.device)
    folder = directory.path / FOLDER
    context = replace(context, calibration=calibration, batches=batches if encoded else None, folder=folder)
    with seconds("prepare"), preparing(config), place.accelerator.main_process_first():
        method.prepare(loaded.model, context)  # the others read back what the first one wrote
    with seconds("adapt"):
        seed_everything(config.seed)
        model = method.adapt(loaded.model, context).to(place.accelerator.device)
        parameters = count_parameters(model, loaded.head)
        screen.say(
            f"method {config.method.name}: {parameters['trainable']:,} of {parameters['total']:,} parameters train"
        )
        if choice := choice_of(config.method, parameters["adapter"]):
            screen.say(f"budget {choice.text()}")
    return Parts(task, data, encoded, loaded, method, model, parameters, before)


def adapt_context(
    config: RunConfig, method: Method, head: list[str], steps: int, fresh: list[str] | None = None
) -> AdaptContext:
    """What the method may know of this run."""
    model = asdict(config.model)
    targets = match_targets(model, config.method.target_modules) if method.adapts_layers else {}
    prefix = architecture_of(model).prefix
    task_type = "CAUSAL_LM" if config.task.kind == "generation" else "SEQ_CLS"
    frozen = [name for name in fresh or [] if name not in head]
    names = [f"{prefix}.{name}" for name in targets]
    return AdaptContext(names, head, task_type, config.seed, steps, frozen=frozen)


def evaluation(config: RunConfig, directory: RunDirectory, parts: Parts, place: Place) -> Callable[..., Evaluation]:
    """The call that scores the model as it stands on a list of examples, by all metrics or ``only`` one.

    ``kept``: names of the split and of the model's state, under which finished texts outlive a kill.
    """
    evaluator = EVALUATORS[config.evaluator.name](config.evaluator)

    def evaluate(examples: list[Any], only: str | None = None, kept: tuple[str, str] | None = None) -> Evaluation:
        model, tokenizer = parts.model, parts.loaded.tokenizer
        journal = Journal(directory.path / PREDICTIONS, *kept) if kept else None
        evaluator.run = WithinRun(parts.method, directory.path, journal)
        with place.seconds("evaluate"):
            return evaluator.evaluate(model, tokenizer, parts.task, examples, place.screen, only=only)

    return evaluate


def logger(directory: RunDirectory, tracker: GeneralTracker | None, place: Place) -> Callable[[dict[str, Any]], None]:
    """The call that writes one event of the training to metrics.jsonl and to the tracker."""

    def log(event: dict[str, Any]) -> None:
        if place.writes:
            directory.append_metrics(event)
        if tracker is not None:
            tracker.log(curves(event), step=event["step"])

    return log


def curves(event: dict[str, Any]) -> dict[str, float]:
    """The numbers of an event, named for a tracker."""
    if event["event"] == "evaluate":
        return {f"select/{name}": value for name, value in event["select"].items()}
    return {f"train/{k}": v for k, v in event.items() if isinstance(v, int | float) and k != "step"}


def write(
    config: RunConfig,
    directory: RunDirectory,
    method: Method,
    model: torch.nn.Module,
    outcome: Outcome,
    result: dict[str, Any],
) -> None:
    """Predictions, diagnostics of the adapted layers, adapter, model card and, last, result.json."""
    write_predictions(config, directory, outcome)
    if layers := method.report().get("layers"):
        directory.write_layers(layers)
    if config.trainer.keep_weights and config.evaluator.test:
        method.save(model, directory.path / "adapter", base_name(config))
        follow_umask(directory.path / "adapter")
        write_card(directory.path / "adapter", result, asdict(config))
    directory.write_result(result)


def write_predictions(config: RunConfig, directory: RunDirectory, outcome: Outcome) -> None:
    """Per-example rows of every evaluated split, in the best and the last state, and of the base model if asked for."""
    if not config.evaluator.save_predictions:
        return
    for split, evaluated in outcome.best.items():
        directory.write_predictions(split, evaluated.rows)
    for split, evaluated in outcome.last.items():
        directory.write_predictions(f"{split}_last", evaluated.rows)
    for split, evaluated in outcome.before.items():
        directory.write_predictions(f"before/{split}", evaluated.rows)


def base_name(config: RunConfig) -> str:
    """What PEFT should load the adapter onto: the hub id where it names the same weights, else the local folder."""
    model = config.model
    if model.path:
        return str(Path(model.path).expanduser().resolve())
    return model.hub_id if model.hub_id and not model.approximation else model.name
