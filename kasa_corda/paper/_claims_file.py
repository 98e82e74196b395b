"""Reads ``claims.yaml``: names become selectors, groups and rates, lists become parts, mistakes become sentences."""

from __future__ import annotations

import re
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from ..errors import ConfigError, nearest
from .claims import FORMS, KINDS, Claim, Part, Selector

FILE = Path(__file__).with_name("claims.yaml")
PAPERS = ("kasa", "corda")
CONDITION = re.compile(r"(>=|<=|!=|==|>|<)\s*\S+")
TOP = ("groups", "rates", "selectors", "claims")
CLAIM_KEYS = ("id", "sentence", "source", "parts", "pocket", "no_pocket", "no_parts", "needed")
SELECTOR_KEYS = ("name", "where", "unranked")
PART_KEYS = (
    *KINDS,
    "than",
    "model",
    "tasks",
    "each_task",
    "metric",
    "margin",
    "rank",
    "discard",
    "rates",
    "where",
    "printed",
)


def read(path: Path | str | None = None) -> list[Claim]:
    """Every claim of a file; the shipped one is read once."""
    return list(_shipped()) if path is None else list(_parsed(Path(path)))


@cache
def _shipped() -> tuple[Claim, ...]:
    return _parsed(FILE)


def _parsed(path: Path) -> tuple[Claim, ...]:
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"{path.name} can't be read: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path.name} must be a mapping with the keys {', '.join(TOP)}")
    _known(path.name, content, TOP)
    file = _File(content)
    claims = tuple(file.claim(row) for row in content.get("claims") or [])
    ids = [claim.id for claim in claims]
    if repeated := sorted({name for name in ids if ids.count(name) > 1}):
        raise ConfigError(f"claim {repeated[0]} is there twice")
    return claims


class _File:
    def __init__(self, content: dict[str, Any]) -> None:
        self.groups: dict[str, Any] = content.get("groups") or {}
        self.rates: dict[str, Any] = content.get("rates") or {}
        self.selectors: dict[str, dict[str, Any]] = content.get("selectors") or {}
        for name, row in self.selectors.items():
            _known(f"selector {name}", row, SELECTOR_KEYS)
            if "method" not in (row.get("where") or {}):
                raise ConfigError(f"selector {name}: where has no key method")

    def claim(self, row: dict[str, Any]) -> Claim:
        name = f"claim {row.get('id', '?')}"
        _known(name, row, CLAIM_KEYS)
        for key in ("id", "sentence", "source"):
            if not isinstance(row.get(key), str) or not row[key].strip():
                raise ConfigError(f"{name}: {key} is missing")
        paper = row["id"].partition(".")[0]
        if paper not in PAPERS or paper == row["id"]:
            raise ConfigError(f"{name}: id must begin with one of {', '.join(f'{p}.' for p in PAPERS)}")
        forms = {
            form: tuple(part for spec in row.get(key) or [] for part in self.parts(f"{name}, {key}", spec, form))
            for form, key in zip(FORMS, ("parts", "pocket"), strict=True)
        }
        if bool(forms["paper"]) == bool(row.get("no_parts")):
            raise ConfigError(f"{name}: give either parts or no_parts (why no run decides it)")
        if bool(forms["pocket"]) == bool(row.get("no_pocket")):
            raise ConfigError(f"{name}: give either pocket or no_pocket (why it has no pocket form)")
        needed = row.get("needed")
        if needed is not None and not 1 <= needed <= min(len(p) for p in forms.values() if p):
            raise ConfigError(f"{name}: needed={needed} must lie between 1 and the number of parts")
        return Claim(
            row["id"],
            paper,
            row["sentence"],
            row["source"],
            forms["paper"],
            forms["pocket"],
            row.get("no_pocket", ""),
            row.get("no_parts", ""),
            needed,
        )

    def parts(self, name: str, spec: dict[str, Any], form: str) -> list[Part]:
        """One entry; every list in it but ``tasks`` is several parts."""
        _known(name, spec, PART_KEYS)
        kinds = [kind for kind in KINDS if kind in spec]
        if len(kinds) != 1:
            raise ConfigError(f"{name}: a part has exactly one of the keys {', '.join(KINDS)}, not {len(kinds)}")
        kind = kinds[0]
        alone = kind in ("at_most", "at_least")
        if alone == ("than" in spec):
            raise ConfigError(
                f"{name}: {kind} " + ("has nothing to be compared with: drop than" if alone else "needs than")
            )
        for key in ("model",) + (("margin", "metric") if alone else ()):
            if key not in spec:
                raise ConfigError(f"{name}: {key} is missing")
        if ("tasks" in spec) == ("each_task" in spec):
            raise ConfigError(f"{name}: give either tasks (their mean) or each_task (a part each)")
        sets = (
            [(task,) for task in self.group(spec["each_task"])] if "each_task" in spec else [self.group(spec["tasks"])]
        )
        sides = product(_list(spec[kind]), _list(spec.get("than")) if not alone else [None])
        metrics = self.group(spec["metric"]) if "metric" in spec else [None]
        ranks, discards = _list(spec.get("rank")), _list(spec.get("discard"))
        self.check_printed(name, spec, metrics)
        found = []
        for (ours, than), model, tasks, metric, rank, (at, discard) in product(
            sides, self.group(spec["model"]), sets, metrics, ranks, enumerate(discards)
        ):
            own = {"method.rank": rank} if rank is not None else {}
            selectors = [None if key is None else self.selector(name, key, form, own, discard) for key in (ours, than)]
            printed = [_printed(spec, metric, key, at) for key in (ours, than)]
            assert selectors[0] is not None
            found.append(
                Part(
                    kind,
                    selectors[0],
                    selectors[1],
                    model,
                    tuple(tasks),
                    metric,
                    float(spec.get("margin", 0.0)),
                    self.conditions(name, spec.get("where") or {}, form),
                    (printed[0], printed[1]),
                    self.rate(name, spec.get("rates")),
                )
            )
        return found

    def group(self, names: Any) -> tuple[Any, ...]:
        """Names, those of a group in its place."""
        members = (self.groups.get(name, name) for name in _list(names))
        return tuple(item for member in members for item in _list(member))

    def selector(self, name: str, key: str, form: str, own: dict[str, Any], discard: int | None) -> Selector:
        if key not in self.selectors:
            raise ConfigError(f"{name}: there is no selector {key}{_did_you_mean(key, self.selectors)}")
        row = self.selectors[key]
        where = self.conditions(f"selector {key}", row["where"], form)
        if not row.get("unranked"):
            where |= own
        if where["method"] == "discarded" and discard is not None:
            where["method.discard"] = discard
        return Selector(row.get("name", key), where, key)

    def conditions(self, name: str, where: dict[str, Any], form: str) -> dict[str, Any]:
        """``where`` for one form; a value may be a mapping with one for each form."""
        resolved = {}
        for key, value in where.items():
            if isinstance(value, dict):
                _known(f"{name}, {key}", value, FORMS)
                if form not in value:
                    raise ConfigError(f"{name}: {key} has no value for the {form} form")
                value = value[form]
            if isinstance(value, str) and value[:1] in "<>=!" and not CONDITION.fullmatch(value):
                raise ConfigError(f"{name}: {key}={value!r} is no condition; write for example '> 0' or '!= none'")
            resolved[key] = value
        return resolved

    def rate(self, name: str, rates: Any) -> float | dict[str, float] | None:
        if isinstance(rates, str) and not _number(rates):
            if rates not in self.rates:
                raise ConfigError(f"{name}: there are no rates {rates}{_did_you_mean(rates, self.rates)}")
            rates = self.rates[rates]
        if isinstance(rates, dict):
            return {key: _positive(f"{name}, rates of {key}", value) for key, value in rates.items()}
        return None if rates is None else _positive(f"{name}, rates", rates)

    def check_printed(self, name: str, spec: dict[str, Any], metrics: Any) -> None:
        printed = spec.get("printed") or {}
        by_metric = any(isinstance(value, dict) for value in printed.values())
        if by_metric:
            _known(f"{name}, printed", printed, [metric for metric in metrics if metric])
        for row in printed.values() if by_metric else [printed]:
            for key, value in row.items():
                if key not in self.selectors:
                    raise ConfigError(f"{name}: printed names no selector: {key}{_did_you_mean(key, self.selectors)}")
                if isinstance(value, list) and len(value) != len(_list(spec.get("discard"))):
                    raise ConfigError(f"{name}: printed {key} has {len(value)} values for other many of discard")


def _printed(spec: dict[str, Any], metric: str | None, key: str | None, at: int) -> float | None:
    """The printed number of one selector, ``at`` a place of ``discard``."""
    printed = spec.get("printed") or {}
    row = printed.get(metric, printed)
    value = row.get(key) if isinstance(row, dict) else None
    if isinstance(value, list):
        value = value[at]
    return float(value) if isinstance(value, int | float) else None


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _known(name: str, row: Any, keys: Any) -> None:
    if not isinstance(row, dict):
        raise ConfigError(f"{name} must be a mapping, not {row!r}")
    for key in row:
        if key not in keys:
            raise ConfigError(f"{name}: unknown key {key}{_did_you_mean(key, keys)}")


def _did_you_mean(value: Any, choices: Any) -> str:
    close = nearest(value, choices)
    return f"; did you mean {', '.join(close)}?" if close else f"; there are {', '.join(map(str, choices))}"


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _positive(name: str, value: Any) -> float:
    number = _number(value)
    if number is None or not 0 < number < 1:
        raise ConfigError(f"{name}: {value!r} is no learning rate between 0 and 1")
    return number
