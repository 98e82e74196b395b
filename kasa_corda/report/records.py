"""Run directories as typed records: one per run, whatever its state. Damage is reported, never fatal."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, TypeGuard

import yaml

from ..config.run_id import VOLATILE, early_groups
from ..errors import DataError, KasaCordaError
from ..store import STATES, RunDirectory, limited

DAMAGED = "damaged"
DUPLICATE = "duplicate"
MEASURED = ("seconds", "peak_memory_bytes", "throughput")
"""parts of result.json that differ each time, even where a run is repeated bit by bit"""
UNREADABLE = (ValueError, TypeError, KeyError, AttributeError, OSError, RecursionError, yaml.YAMLError)
"""what reading a damaged run may raise"""
MOST_NESTED = 2000
"""opening brackets and list marks of a config that libyaml may read: it recurses, and a deep one ends the process"""


@dataclass(frozen=True)
class Outcome:
    """Scores at one point of training: the selected epoch (best) or the end (last)."""

    step: int | None
    epoch: float | None
    select: dict[str, float]
    test: dict[str, float]


@dataclass(frozen=True)
class RunRecord:
    """One run. ``settings`` is its flattened config without the seed and the keys that can't change a result."""

    path: Path
    state: str
    error: str | None = None
    task: str = "?"
    model: str = "?"
    method: str = "?"
    label: str = "?"
    variant: str | None = None
    seed: int | None = None
    selection: str = "?"
    scale: str = "?"
    approximation: str | None = None
    metric: str = "?"
    split: str | None = None
    """the further evaluated task that ``metric`` is of; None for the run's own"""
    tested: bool = True
    """False for runs that look at the selection split alone (evaluator.test=false)"""
    higher_is_better: bool = True
    best: Outcome | None = None
    last: Outcome | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    fingerprints: dict[str, str] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    result: dict[str, Any] = field(default_factory=dict)
    status: dict[str, Any] = field(default_factory=dict)

    @property
    def run_id(self) -> str:
        return self.path.name

    @property
    def score(self) -> float | None:
        """The metric on the evaluation set at the selected epoch, as a fraction; None unless finished and tested."""
        return self.best.test.get(self._tested) if self.best else None

    @property
    def last_score(self) -> float | None:
        return self.last.test.get(self._tested) if self.last else None

    @property
    def _tested(self) -> str:
        return f"{self.split}_{self.metric}" if self.split else self.metric

    @property
    def select_metric(self) -> str:
        """The metric that chose the epoch: task.select_by where the task has it, else the run's own."""
        return str(self.settings.get("task.select_by") or self.own_metric)

    @property
    def select_score(self) -> float | None:
        """``select_metric`` on the selection split at the selected epoch; None unless finished."""
        return self.best.select.get(self.select_metric) if self.best else None

    @property
    def own_metric(self) -> str:
        """The metric of the task, whichever one this record shows."""
        return str(self.result.get("metric") or self.settings.get("task.metric"))

    @property
    def further_tasks(self) -> tuple[str, ...]:
        """Names of the further tasks that the trained model was evaluated on."""
        return tuple(_mapping(_mapping(self.config.get("task")).get("also_evaluate")))

    @cached_property
    def identity(self) -> tuple[Any, ...]:
        """Everything asked for except the seed: runs that agree here repeat one experiment."""
        settings = json.dumps(self.settings, sort_keys=True, default=str)
        return (self.task, self.model, self.method, self.label, self.variant, self.selection, self.scale, settings)

    def number(self, *keys: str) -> float | None:
        """A number out of result.json, e.g. ``number("seconds", "total")``; None if it isn't there."""
        value: Any = self.result
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        return float(value) if _is_number(value) else None


def read_runs(roots: Iterable[str | Path]) -> list[RunRecord]:
    """Every run below ``roots``, sorted by path; the same run found twice counts once (state 'duplicate')."""
    paths: dict[Path, None] = {}
    for root in roots:
        if not Path(root).is_dir():
            raise DataError(f"there is no folder {str(root)!r}; give the folder that holds the run directories")
        paths.update(dict.fromkeys(_find(Path(root))))
    records = [record for path in sorted(paths) if (record := read_run(path)) is not None]
    return _mark_duplicates(records)


def read_run(path: Path) -> RunRecord | None:
    """One run directory; None if the folder turns out to be something else."""
    try:
        return _read(path)
    except (KasaCordaError, *UNREADABLE) as error:
        return _damaged(path, " ".join(str(error).split()) or type(error).__name__)


def flatten(value: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries as dotted keys."""
    flat: dict[str, Any] = {}
    for key, item in value.items():
        if isinstance(item, dict):
            flat.update(flatten(item, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = item
    return flat


def settings_of(config: dict[str, Any]) -> dict[str, Any]:
    """The flattened config without seed, names already in the row, and everything that can't change a result."""
    with suppress(KasaCordaError, LookupError, TypeError, AttributeError):  # of another version: as they stand
        config = early_groups(config)
    dropped = {"seed", "selection", *VOLATILE[""]}
    dropped |= {f"{group}.{key}" for group, keys in VOLATILE.items() if group for key in keys}
    kept = {key: value for key, value in config.items() if key not in dropped}
    return {key: value for key, value in flatten(kept).items() if key not in dropped}


def _find(root: Path) -> Iterator[Path]:
    stack = [str(root)]
    while stack:
        folder = stack.pop()
        try:
            entries = list(os.scandir(folder))
        except OSError:
            continue
        names = {entry.name for entry in entries}
        if names & {"config.yaml", "status.json", "result.json"}:
            yield Path(folder)
            if names & {"status.json", "result.json"}:
                continue
        stack += [e.path for e in entries if e.is_dir(follow_symlinks=False) and not e.name.startswith(".")]


def _read(path: Path) -> RunRecord | None:
    bare = not (path / "status.json").exists() and not (path / "result.json").exists()
    if not (path / "config.yaml").exists():
        return _damaged(path, "config.yaml is missing")
    config = parse_config((path / "config.yaml").read_text(encoding="utf-8"))
    if not isinstance(config, dict) or not all(isinstance(config.get(g), dict) for g in ("task", "model", "method")):
        return None if bare else _damaged(path, "config.yaml is not the config of a run")
    record = _asked_for(path, config)
    try:
        status, result = _json(path / "status.json") or {}, _json(path / "result.json") or {}
        state = status.get("state") or ("finished" if result else "queued")
        if state == "running":
            state = RunDirectory(path).state()
    except (KasaCordaError, *UNREADABLE) as error:
        return replace(record, state=DAMAGED, error=str(error))
    if state not in STATES:
        return replace(record, state=DAMAGED, error=f"status.json gives the unknown state {state!r}")
    record = replace(record, state=state, error=_text(status.get("error")), status=status)
    return _with_result(record, result) if state == "finished" else record


def _asked_for(path: Path, config: dict[str, Any]) -> RunRecord:
    """The part of a record that config.yaml fixes before the run starts."""
    task, model, method = config["task"], config["model"], config["method"]
    return RunRecord(
        path=path,
        state="queued",
        task=str(task["name"]),
        model=str(model["name"]),
        method=str(method["name"]),
        label=str(method.get("label") or method["name"]),
        variant=_text(method.get("variant")),
        seed=int(config["seed"]),
        selection=str(config.get("selection", "?")),
        scale=str(_mapping(config.get("scale")).get("name", "?")),
        tested=_mapping(config.get("evaluator")).get("test") is not False,
        approximation=_text(model.get("approximation")),
        metric=str(task.get("metric") or "?"),
        settings=settings_of(config),
        config=config,
    )


def _with_result(record: RunRecord, result: dict[str, Any]) -> RunRecord:
    if not result:
        return replace(record, state=DAMAGED, error="finished, but result.json is missing")
    metric = str(result.get("metric") or record.metric)
    best, last = _outcome(result.get("best")), _outcome(result.get("last"))
    if best is None or (record.tested and metric not in best.test):
        return replace(record, state=DAMAGED, error=f"result.json has no score best.test.{metric}")
    # a seeded draw of training examples makes the data differ by seed, as asked for
    drawn = record.config["task"].get("train_examples") is not None
    sources = {"model.fingerprint": "model_source"} | ({} if drawn else {"data.fingerprint": "data"})
    fingerprints = {key: _mapping(result.get(source)).get("fingerprint") for key, source in sources.items()}
    return replace(
        record,
        label=str(result.get("label") or record.label),
        variant=_text(result.get("variant")) or record.variant,
        approximation=record.approximation or _text(_mapping(result.get("model_source")).get("approximation")),
        metric=metric,
        best=best,
        last=last,
        higher_is_better=bool(result.get("higher_is_better", True)),
        fingerprints={key: str(value) for key, value in fingerprints.items() if value},
        result=result,
    )


def parse_config(text: str) -> Any:
    """The YAML of a run. Runs share most groups, so each top-level group is parsed once and remembered."""
    if "&" not in text and "*" not in text:
        merged: dict[str, Any] = {}
        try:
            for part in re.split(r"^(?=[A-Za-z_])", text, flags=re.MULTILINE):
                merged.update(_parse_group(part) or {})
            return merged
        except (yaml.YAMLError, TypeError, ValueError, RecursionError):
            pass
    return limited(yaml.load(text, Loader=_loader(text)))


@lru_cache(maxsize=4096)
def _parse_group(text: str) -> Any:
    return yaml.load(text, Loader=_loader(text))


def _loader(text: str) -> Any:
    """libyaml's loader, or for a text that may be nested very deeply Python's, which raises RecursionError."""
    deep = sum(text.count(mark) for mark in ("[", "{", "- ", "? ")) > MOST_NESTED
    return yaml.SafeLoader if deep else getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _mark_duplicates(records: list[RunRecord]) -> list[RunRecord]:
    """Of several records of one run keep the finished (then the latest) one."""
    kept: dict[tuple[Any, ...], RunRecord] = {}
    loser_of: dict[Path, RunRecord] = {}
    for record in sorted((r for r in records if r.state != DAMAGED), key=_worth, reverse=True):
        keys = [(*record.identity, record.seed, record.run_id)]
        if record.state == "finished":
            keys.append((*record.identity, record.seed, *sorted(record.fingerprints.items())))
        winner = next((kept[key] for key in keys if key in kept), None)
        if winner is not None:
            loser_of[record.path] = winner
        else:
            kept.update(dict.fromkeys(keys, record))
    return [
        replace(r, state=DUPLICATE, error=f"the same run as {loser_of[r.path].path}; counted once")
        if r.path in loser_of
        else r
        for r in records
    ]


def _worth(record: RunRecord) -> tuple[bool, float]:
    time = record.status.get("time")
    return record.state == "finished", float(time) if _is_number(time) else 0.0


def _damaged(path: Path, error: str) -> RunRecord:
    """A record of what can't be read; task, model and method are guessed from the folder names."""
    *_, task, model, method = ("?", "?", "?", *path.parent.parts[-4:])
    return RunRecord(path=path, state=DAMAGED, error=error, task=task, model=model, method=method, label=method)


def _json(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise DataError(f"{path.name} is damaged ({error})") from None
    if not isinstance(value, dict):
        raise DataError(f"{path.name} is damaged (a {type(value).__name__} instead of a table of keys)")
    return value


def _outcome(value: Any) -> Outcome | None:
    if not isinstance(value, dict) or not isinstance(value.get("test"), dict):
        return None
    return Outcome(value.get("step"), value.get("epoch"), _scores(value.get("select")), _scores(value["test"]))


def _scores(value: Any) -> dict[str, float]:
    """Numbers only; a null is a score that could not be computed (NaN)."""
    items = _mapping(value).items()
    return {str(k): math.nan if v is None else float(v) for k, v in items if v is None or _is_number(v)}


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str | None:
    return None if value is None or value == "" else str(value)


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
