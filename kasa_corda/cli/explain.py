"""Hydra's and OmegaConf's complaints as one sentence: key, value, nearest valid choice."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from hydra.errors import HydraException, MissingConfigException
from omegaconf.errors import OmegaConfBaseException, ValidationError

from ..config import RunConfig
from ..errors import nearest, unknown

CONFIGS = Path(__file__).resolve().parents[2] / "configs"

TRANSLATED = (HydraException, OmegaConfBaseException)

EXPECTED = {"Float": "a number", "Integer": "a whole number", "Boolean": "true or false", "String": "a text"}


def explained(error: Exception, arguments: list[str]) -> str:
    """One sentence for a composition error of the command line ``arguments``."""
    if isinstance(error, MissingConfigException) and error.options is not None:
        missing = str(error.missing_cfg_file)
        group = next((name for name in GROUPS if missing.startswith(f"{name}/")), missing.partition("/")[0])
        return unknown(group, missing.removeprefix(f"{group}/"), group_options(group))
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    if isinstance(cause, ValidationError):
        return wrong_type(cause, arguments)
    text = str(error).strip()
    if found := re.search(r"Could not override '([^']+)'", text):
        return unknown_key(found.group(1), arguments)
    if found := re.search(r"Key '([^']+)' is not in struct|Key '([^']+)' not in '", text + str(cause)):
        return unknown_key(str(getattr(cause, "full_key", None) or found.group(1) or found.group(2)), arguments)
    if found := re.search(r"Error parsing override '(.*?)'\n", text, re.DOTALL):
        return (
            f"{found.group(1)!r} is not an override of the form key=value"
            " (values with , [ ] { } = or spaces need quotes)"
        )
    return text.split("\n")[0]


GROUPS = (
    "model",
    "method",
    "task",
    "evaluator",
    "trainer",
    "scale",
    "tracker",
    "experiment",
    "suite",
    "hparams",
    "hydra/launcher",
)


def group_options(group: str) -> list[str]:
    """Every option of a config group, those in subfolders too."""
    folder = CONFIGS / group
    return [str(path.relative_to(folder).with_suffix("")) for path in folder.rglob("*.yaml")]


def wrong_type(error: ValidationError, arguments: list[str]) -> str:
    key = str(error.full_key)
    given = next((a.split("=", 1)[1] for a in arguments if a.lstrip("+").startswith(f"{key}=")), None)
    value = given if given is not None else error.value if hasattr(error, "value") else "?"
    found = re.search(r"could not be converted to (\w+)", str(error))
    expected = EXPECTED.get(found.group(1), found.group(1)) if found else "a value of another type"
    if "is not a subclass" in str(error) or "not Optional" in str(error) or "non-optional" in str(error).lower():
        expected = "a value, not null" if str(value).lower() in ("null", "none", "~") else expected
    return f"{key}={value} must be {expected}"


def unknown_key(key: str, arguments: list[str]) -> str:
    """The sentence for a key that no schema has."""
    keys = known_keys()
    value = next((a.split("=", 1)[1] for a in arguments if a.lstrip("+~").startswith(f"{key}=")), None)
    leaf = key.rsplit(".", 1)[-1]
    close = nearest(key, keys) or [
        k for k in keys if k.rsplit(".", 1)[-1] in nearest(leaf, {k.rsplit(".", 1)[-1] for k in keys})
    ]
    same_leaf = [k for k in keys if k.rsplit(".", 1)[-1] == leaf and k != key]
    suggestions = (same_leaf + [k for k in close if k not in same_leaf and k != key])[:3]
    hint = f"; did you mean {' or '.join(suggestions)}?" if suggestions else ""
    shown = f"{key}={value}" if value is not None else key
    where = " for the chosen method, task or evaluator" if key in keys else ""
    return f"{shown}: there is no key {key}{where}{hint}; python run.py --help lists all"


def known_keys() -> list[str]:
    """Every dotted key of every group and registered method, task family and evaluator."""
    from ..evaluation import EVALUATORS
    from ..methods import METHODS
    from ..tasks import TASKS

    keys = set(GROUPS)
    for f in dataclasses.fields(RunConfig):
        classes = [f.default_factory] if dataclasses.is_dataclass(f.default_factory) else []
        classes += [
            c.Config
            for n, r in (("method", METHODS), ("task", TASKS), ("evaluator", EVALUATORS))
            if n == f.name
            for _, c in r.items()
        ]
        keys.add(f.name)
        keys |= {f"{f.name}.{inner.name}" for cls in classes for inner in dataclasses.fields(cls)}
    return sorted(keys)
