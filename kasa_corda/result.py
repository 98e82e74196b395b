"""What result.json holds."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from .budget import choice_of
from .config import RunConfig
from .measure import Stopwatch, peak_memory
from .provenance import provenance

if TYPE_CHECKING:
    from .evaluation.base import Evaluation
    from .pipeline import Parts
    from .training import FitProgress


@dataclass
class Outcome:
    """A finished fit and its evaluations on every test split, in the best and in the last state."""

    fitted: FitProgress
    best: dict[str, Evaluation]
    last: dict[str, Evaluation]


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
        "parameters": parts.parameters,
        "budget": choice and asdict(choice),
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
            "truncated": parts.task.truncated,
        },
        "calibration": report.get("calibration"),
        "notes": [*loaded.notes, *data.notes, *report.get("notes", [])],
        "provenance": provenance(command),
    }


def described(config: RunConfig) -> dict[str, Any]:
    """The part of a result that says what was run."""
    return {
        "task": config.task.name,
        "model": config.model.name,
        "method": config.method.name,
        "label": config.method.label or config.method.name,
        "seed": config.seed,
        "selection": config.selection,
        "scale": config.scale.name,
        "metric": config.task.metric,
        "higher_is_better": True,
    }


def moment(parts: Parts, reached: Any, test: dict[str, Evaluation]) -> dict[str, Any]:
    """Step, epoch and selecting scores of one state, with its scores over all test splits."""
    return {**asdict(reached), "test": parts.task.combine({name: e.scores for name, e in test.items()})}
