"""Conditions on the settings of a run: a value, one of several, '> 0', '!= none'."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..report.records import RunRecord

NAMES = ("scale", "selection", "label", "variant", "seed")
"""what a record holds beside its settings"""
_COMPARISON = re.compile(r"^(>=|<=|!=|==|>|<)\s*(.*)$")
_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    ">": operator.gt, "<": operator.lt, ">=": operator.ge, "<=": operator.le,
}  # fmt: skip


def meets(record: RunRecord, settings: Mapping[str, Any], where: Mapping[str, Any]) -> bool:
    """Whether a run fulfils every condition; ``settings``: its flattened config."""
    return all(matches(value_of(record, settings, key), condition) for key, condition in where.items())


def value_of(record: RunRecord, settings: Mapping[str, Any], key: str) -> Any:
    """A setting of a run. A key that the run's config lacks, because it came later, has the schema's default."""
    if key in ("method", "model", "task"):
        return getattr(record, key)
    if key == "scale.name" or key in NAMES:
        return getattr(record, key.removesuffix(".name"))
    if key in settings:
        return settings[key]
    group, _, name = key.partition(".")
    return _default(group, name, record.method, str(settings.get("task.family")), str(settings.get("evaluator.name")))


def matches(value: Any, condition: Any) -> bool:
    """Numbers compare as numbers, whether written as text or not; none is the absence of a value."""
    if isinstance(condition, Mapping):
        return bool(condition.get("any"))
    if isinstance(condition, list | tuple):
        return _equal(value, list(condition)) or any(matches(value, one) for one in condition)
    found = _COMPARISON.match(condition) if isinstance(condition, str) else None
    if found is None:
        return _equal(value, condition)
    sign, other = found.groups()
    if sign in ("==", "!="):
        return _equal(value, other) == (sign == "==")
    number, limit = _number(value), _number(other)
    return number is not None and limit is not None and _OPERATORS[sign](number, limit)


def _equal(value: Any, other: Any) -> bool:
    first, second = _number(value), _number(other)
    if first is not None and second is not None:
        return abs(first - second) <= 1e-9 * max(abs(first), abs(second))
    value, other = _plain(value), _plain(other)
    return value == other and isinstance(value, bool) == isinstance(other, bool)


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except ValueError:
        return None


def _plain(value: Any) -> Any:
    if value is None or (isinstance(value, str) and value.lower() in ("none", "null", "~", "")):
        return None
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value


@lru_cache(maxsize=4096)
def _default(group: str, name: str, method: str, family: str, evaluator: str) -> Any:
    """The schema's default of a key; None where no schema has it."""
    from ..calibration.settings import CalibrationConfig
    from ..config.schema import EvaluatorConfig, ModelConfig, RunConfig, TaskConfig, TrainerConfig, field_help
    from ..evaluation import EVALUATORS
    from ..methods import METHODS
    from ..tasks import TASKS

    schemas: dict[str, type | None] = {
        "method": METHODS[method].Config if method in METHODS.names() else None,
        "task": TASKS[family].Config if family in TASKS.names() else TaskConfig,
        "evaluator": EVALUATORS[evaluator].Config if evaluator in EVALUATORS.names() else EvaluatorConfig,
        "trainer": TrainerConfig,
        "model": ModelConfig,
        "calibration": CalibrationConfig,
        "": RunConfig,
    }
    schema = schemas.get(group)
    found = next((f.default for f in field_help(schema) if f.name == name), None) if schema else None
    return None if found is MISSING or found == "???" else found
