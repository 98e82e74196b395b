"""What result.json holds."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from .budget import choice_of
from .config import RunConfig
from .evaluation.units import higher_is_better
from .measure import Stopwatch, peak_memory
from .provenance import provenance
from .remarks import collapsed, fit_notes
from .search.alpha import alpha_rule
from .tasks._splits import fingerprint

if TYPE_CHECKING:
    from .evaluation.base import Evaluation
    from .fitted import FitProgress
    from .pipeline import Parts


@dataclass
class Outcome:
    """A finished fit and its evaluations on every test split, in the best and in the last state."""

    fitted: FitProgress
    best: dict[str, Evaluation]
    last: dict[str, Evaluation]
    before: dict[str, Evaluation] = field(default_factory=dict)
    """the base model's, on the tasks of evaluator.forgetting"""


def result_of(
    config: RunConfig, parts: Parts, outcome: Outcome, seconds: Stopwatch, command: list[str]
) -> dict[str, Any]:
    """The content of result.json."""
    fitted, data, loaded = outcome.fitted, parts.data, parts.loaded
    report = parts.method.report()
    choice = choice_of(config.method, parts.parameters["adapter"])
    return {
        **described(config),
        "variant": parts.method.variant(),
        "switches": report.get("switches", {}),
        "best": moment(parts, fitted.best, outcome.best),
        "last": moment(parts, fitted.last, outcome.last),
        **forgotten(parts, outcome),
        "parameters": parts.parameters,
        "budget": choice and asdict(choice),
        "seconds": seconds.total() | {"fit": fitted.seconds},
        "peak_memory_bytes": peak_memory(),
        "throughput": {
            "examples_per_second": fitted.examples / max(fitted.seconds, 1e-9),
            "tokens_per_second": fitted.tokens / max(fitted.seconds, 1e-9),
        },
        "accumulation": fitted.accumulation(config.trainer),
        "loss": fitted.loss,
        "skipped_steps": {"nonfinite": fitted.skipped, "overflow": fitted.overflows},
        "model_source": {
            "source": loaded.source,
            "fingerprint": loaded.fingerprint,
            "approximation": config.model.approximation,
        },
        "data": {
            "source": data.source,
            "fingerprint": data.fingerprint,
            "test_fingerprint": fingerprint(data.test),
            "counts": {name: len(split) for name, split in data.splits().items()},
            "truncated": parts.task.truncated,
        },
        "evaluation": evaluation_settings(outcome.best),
        "calibration": report.get("calibration"),
        "notes": [
            *loaded.notes,
            *data.notes,
            *parts.task.notes,
            *report.get("notes", []),
            *fit_notes(config.trainer, fitted),
            *collapsed(outcome.best, outcome.last),
            *evaluation_notes(outcome.best),
        ],
        "provenance": provenance(command),
    }


def evaluation_notes(evaluated: dict[str, Evaluation]) -> list[str]:
    """Notes on the scores of every split, those of a further task with its name."""
    return [
        note if split == "test" else f"{split}: {note}" for split, found in evaluated.items() for note in found.notes
    ]


def evaluation_settings(evaluated: dict[str, Evaluation]) -> dict[str, Any]:
    """How the model was used: of the first split, and of the others what differs there (``splits``)."""
    if not evaluated:
        return {}
    (_, first), *others = evaluated.items()
    splits = {
        name: {key: value for key, value in found.settings.items() if value != first.settings.get(key)}
        for name, found in others
    }
    return {**first.settings, **({"splits": splits} if any(splits.values()) else {})}


def forgotten(parts: Parts, outcome: Outcome) -> dict[str, Any]:
    """What was asked for by evaluator.forgetting; nothing if nothing was."""
    from .evaluation.forgetting import compared, knowledge_average

    if not outcome.before:
        return {}
    return {
        "forgetting": compared(parts.task, outcome.before, outcome.best),
        "knowledge_average": knowledge_average(parts.task, outcome.before, outcome.best),
    }


def described(config: RunConfig) -> dict[str, Any]:
    """The part of a result that says what was run."""
    alpha = alpha_rule(asdict(config.method))
    return {
        "task": config.task.name,
        "model": config.model.name,
        "method": config.method.name,
        "label": config.method.label or config.method.name,
        "seed": config.seed,
        "selection": config.selection,
        "scale": config.scale.name,
        "metric": config.task.metric,
        "higher_is_better": higher_is_better(config.task.metric),
        "tested": config.evaluator.test,
        "learning_rate": config.trainer.learning_rate,
        "alpha_rule": alpha.text,
        "alpha_scale": alpha.scale,
    }


def moment(parts: Parts, reached: Any, test: dict[str, Evaluation]) -> dict[str, Any]:
    """Step, epoch and selecting scores of one state, with its scores over all test splits (none: evaluator.test)."""
    if not test:
        return {**asdict(reached), "test": {}, "test_errors": {}}
    return {
        **asdict(reached),
        "test": parts.task.combine({name: e.scores for name, e in test.items()}),
        "test_errors": parts.task.combine_errors({name: e.errors for name, e in test.items()}),
    }
