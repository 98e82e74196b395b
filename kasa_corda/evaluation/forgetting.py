"""What fine-tuning forgets: ``evaluator.forgetting=nq_open,webqs`` scores these tasks before and after it.

Before is the base model, before the method has touched it; after is the best state. The tasks become further tasks of
the run (``task.also_evaluate``), so their data and their scores after training come from there. The scores before are
kept in the user's cache, by everything that decides them: a sweep over methods and seeds computes them once.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError
from .base import Evaluation
from .generation import LIKELIHOOD
from .units import higher_is_better

if TYPE_CHECKING:
    from accelerate import Accelerator

    from ..config import RunConfig
    from ..models.loading import LoadedModel
    from ..progress import Progress
    from ..tasks import Example, Task, TaskData
    from ..tasks._causal import CausalTask

VERSION = 1
"""raised when the same settings would give other scores before training"""
UNIMPORTANT = ("forgetting", "save_predictions", "vllm_python")
"""evaluator settings that change no score"""


def requested(plain: dict[str, Any]) -> dict[str, Any]:
    """A plain run config whose ``evaluator.forgetting`` is a list of names, all of them in ``task.also_evaluate``."""
    from ..tasks._further import further_settings

    asked = plain["evaluator"].get("forgetting")
    names = [asked] if isinstance(asked, str) else list(asked or [])
    if not names:
        return plain
    task = plain["task"]
    if task.get("kind") != "generation":
        raise ConfigError(
            f"evaluator.forgetting={','.join(map(str, names))} asks a language model, but task={task['name']} puts a"
            " head on it; choose a decoder and a task that generates text, such as model=smollm2_135m task=gsm8k"
        )
    further = further_settings(task.get("also_evaluate"))
    further |= further_settings([name for name in names if name not in further], "evaluator.forgetting")
    return {
        **plain,
        "task": {**task, "also_evaluate": further},
        "evaluator": {**plain["evaluator"], "forgetting": names},
    }


def before_training(
    config: RunConfig, task: Task, data: TaskData, loaded: LoadedModel, accelerator: Accelerator, screen: Progress
) -> dict[str, Evaluation]:
    """The base model's evaluations on the tasks of ``evaluator.forgetting``, from the cache where they are there.

    The model is left where it was; no random numbers are used up.
    """
    names = list(config.evaluator.forgetting or []) if config.evaluator.test else []
    return {name: _before(config, task, data.test[name], loaded, accelerator, screen) for name in names}


def _before(
    config: RunConfig,
    task: Task,
    examples: list[Example],
    loaded: LoadedModel,
    accelerator: Accelerator,
    screen: Progress,
) -> Evaluation:
    from accelerate.utils import broadcast_object_list

    from ..models.cache import cache_dir, locked

    key = identity(config, task, examples, loaded, str(accelerator.device.type))
    digest = hashlib.sha256(json.dumps(key, sort_keys=True, default=str).encode()).hexdigest()[:16]
    file = cache_dir() / "forgetting" / f"{digest}.json"
    name = examples[0].task
    # processes of one run wait for each other, which is no place to wait for another run as well
    alone = accelerator.num_processes == 1
    with locked(file, f"{name} before training") if alone else nullcontext():
        found = [read(file) if accelerator.is_main_process else None]
        if not alone:
            broadcast_object_list(found)
        if found[0] is not None:
            screen.say(f"{name} before training: scores of the base model from {file}")
            return found[0]
        screen.say(f"{name} before training: evaluating the base model")
        outcome = _evaluated(config, task, examples, loaded, accelerator, screen)
        if accelerator.is_main_process:
            write(file, key, outcome)
    return outcome


def _evaluated(
    config: RunConfig,
    task: Task,
    examples: list[Example],
    loaded: LoadedModel,
    accelerator: Accelerator,
    screen: Progress,
) -> Evaluation:
    import torch

    from . import EVALUATORS

    evaluator = EVALUATORS[config.evaluator.name](config.evaluator)
    home = next(loaded.model.parameters()).device
    mixed = accelerator.autocast() if trains(config) else nullcontext()  # as the trained model will be evaluated
    with torch.random.fork_rng(), mixed:
        model = loaded.model.to(accelerator.device)
        outcome = evaluator.evaluate(model, loaded.tokenizer, task, examples, screen)
        loaded.model.to(home)
    return outcome


def identity(
    config: RunConfig, task: Task, examples: list[Example], loaded: LoadedModel, device: str
) -> dict[str, Any]:
    """Everything that decides the base model's scores on a further task, as JSON has it."""
    import torch
    import transformers

    from ..config.run_id import VOLATILE, early, early_task, without
    from ..tasks._splits import fingerprint
    from . import EVALUATORS

    owner: CausalTask = task.owner(examples)  # type: ignore[attr-defined]
    tokenizer = loaded.tokenizer
    settings = without(asdict(config.evaluator), ("forgetting", *VOLATILE["evaluator"]))
    return {
        "version": VERSION,
        "model": loaded.fingerprint,
        "dtype": config.model.dtype,
        "attention": config.model.attention,
        "precision": config.trainer.precision if trains(config) else "fp32",
        "tokenizer": [type(tokenizer).__name__, len(tokenizer), tokenizer.chat_template],
        "task": early_task(without(asdict(owner.config), VOLATILE["task"])),
        "data": fingerprint({"test": examples}),
        "evaluator": early(settings, EVALUATORS[config.evaluator.name].Config),
        "device": device,
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
    }


def trains(config: RunConfig) -> bool:
    from ..methods import METHODS

    return METHODS[config.method.name].trains


def read(file: Path) -> Evaluation | None:
    """A stored evaluation; None if it is not there or damaged."""
    try:
        return Evaluation(**json.loads(file.read_text(encoding="utf-8"))["evaluation"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write(file: Path, key: dict[str, Any], outcome: Evaluation) -> None:
    from ..store import _plain, write_atomically

    text = json.dumps({"key": key, "evaluation": asdict(outcome)}, default=_plain, ensure_ascii=False)
    write_atomically(file, text + "\n")


def kept_share(metric: str, before: float, after: float) -> float | None:
    """How much of a score is left: 1 is all of it; None of a score that was 0."""
    part, whole = (after, before) if higher_is_better(metric) else (before, after)
    return part / whole if whole else None


def compared(task: Task, before: dict[str, Evaluation], after: dict[str, Evaluation]) -> dict[str, dict[str, Any]]:
    """Forgotten task -> its metric before and after, and every metric of it, for result.json.

    ``errors`` are the standard errors over the examples, before and after.
    """
    found = {}
    for name, base in before.items():
        ends = after[name].scores
        metrics = {
            metric: {
                "before": value,
                "after": ends[metric],
                "kept": kept_share(metric, value, ends[metric]),
                "errors": [e.errors.get(metric) for e in (base, after[name])],
            }
            for metric, value in base.scores.items()
            if metric in ends
        }
        metric = task.further[name].config.metric  # type: ignore[attr-defined]
        found[name] = {"metric": metric, **metrics[metric], "examples": len(base.rows), "metrics": metrics}
    return found


def knowledge_average(task: Task, before: dict[str, Evaluation], after: dict[str, Evaluation]) -> float | None:
    """CorDA's row average: mean of the scores on world knowledge after training and on what was trained for.

    Of every evaluated task its own metric; tasks scored by likelihood don't take part, their scale is another one.
    None unless there are scores of both kinds.
    """
    further: dict[str, Any] = task.further  # type: ignore[attr-defined]
    metrics = {name: (task if name == "test" else further[name]).config.metric for name in after}
    scores = {name: after[name].scores.get(metric) for name, metric in metrics.items() if metric != LIKELIHOOD}
    known = {name: score for name, score in scores.items() if score is not None}
    if not known.keys() & before.keys() or not known.keys() - before.keys():
        return None
    return sum(known.values()) / len(known)
