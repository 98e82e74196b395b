"""Hydra's and OmegaConf's complaints as one sentence: key, value, nearest valid choice."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException, ValidationError

from ..errors import nearest, unknown
from ..methods.groups import members

CONFIGS = Path(__file__).resolve().parents[2] / "configs"

GRID = "trainer.learning_rate=grid"
"""in a sweep: each value of the method's own LEARNING_RATES"""

SEARCH = "trainer.learning_rate=search"
"""in a sweep: the stages of ``cli.search``"""

TRANSLATED = (HydraException, OmegaConfBaseException)

EXPECTED = {"Float": "a number", "Integer": "a whole number", "bool": "true or false", "String": "a text"}


def explained(error: Exception, arguments: list[str]) -> str:
    """One sentence for a composition error of the command line ``arguments``."""
    if isinstance(error, MissingConfigException) and error.options is not None:
        missing = str(error.missing_cfg_file)
        group = next((name for name in GROUPS if missing.startswith(f"{name}/")), missing.partition("/")[0])
        if group == "method" and members(missing.removeprefix("method/")):
            return f"{missing.replace('/', '=')} names several methods; add -m for a sweep"
        return unknown(group, missing.removeprefix(f"{group}/"), group_options(group))
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    if isinstance(cause, ValidationError):
        found = re.search(r"Error merging override ([^=\n]+=[^\n]*)", str(error))
        return wrong_type(cause, [found.group(1)] if found else arguments)
    text = str(error).strip()
    if found := re.search(r"Could not override '([^']+)'", text):
        return unknown_key(found.group(1), arguments)
    if found := re.search(r"Key '([^']+)' is not in struct|Key '([^']+)' not in '", text + str(cause)):
        return unknown_key(str(getattr(cause, "full_key", None) or found.group(1) or found.group(2)), arguments)
    if isinstance(error, OverrideParseException):
        hint = "values with , [ ] { } = or spaces need quotes"
        return f"{error.override!r} is not an override of the form key=value ({hint})"
    if found := re.search(r"Ambiguous value for argument '([^=]+)=(.*)'", text):
        key, values = found.groups()
        return f"{key}={values} names several values; add -m for a sweep, or write {key}=[{values}] for a list"
    if found := re.search(r"Multiple values for ([\w/]+)\.", text):
        group = found.group(1)
        return f"{group} can't be added with +, it is there already; write {group}=OPTION"
    return text.split("\n")[0]


FIRST = ("model", "method", "task", "evaluator", "trainer", "scale", "tracker", "experiment", "suite", "hydra/launcher")
GROUPS = (
    *FIRST,
    *sorted(path.name for path in CONFIGS.iterdir() if path.is_dir() and path.name not in (*FIRST, "hydra", "local")),
)


def group_options(group: str) -> list[str]:
    """Every option of a config group, those in subfolders too."""
    folder = CONFIGS / group
    names = [path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml")]
    return sorted([*names, "basic"] if group == "hydra/launcher" else names)


def wrong_type(error: ValidationError, arguments: list[str]) -> str:
    key = str(error.full_key)
    given = next((a.split("=", 1)[1] for a in arguments if a.lstrip("+").startswith(f"{key}=")), None)
    value = given if given is not None else error.value if hasattr(error, "value") else "?"
    if f"{key}={value}" in (GRID, SEARCH):
        return f"{key}={value} names several values; add -m for a sweep"
    found = re.search(r"could not be converted to (\w+)|is not a valid (\w+)", str(error))
    wanted = (found.group(1) or found.group(2)) if found else None
    expected = EXPECTED.get(wanted, wanted) if wanted else "a value of another type"
    if "is not a subclass" in str(error) or "not Optional" in str(error) or "non-optional" in str(error).lower():
        expected = "a value, not null" if str(value).lower() in ("null", "none", "~") else expected
    return f"{key}={value} must be {expected}"


def unknown_key(key: str, arguments: list[str]) -> str:
    """The sentence for a key that no schema has."""
    keys = known_keys()
    value = next((a.split("=", 1)[1] for a in arguments if a.lstrip("+~").startswith(f"{key}=")), None)
    shown = f"{key}={value}" if value is not None else key
    if key in keys:
        group, _, leaf = key.rpartition(".")
        if not schemas(group):  # a key inside a key
            group, _, leaf = key.partition(".")
        owners = " or ".join(name for name, known in schemas(group).items() if leaf in known)
        only = f", only {owners} has" if owners else ""
        return f"{shown}: the chosen {group.replace('.', '/')} has no key {key}{only}; python run.py --help lists all"
    leaf = key.rsplit(".", 1)[-1]
    close = nearest(key, keys) or [
        k for k in keys if k.rsplit(".", 1)[-1] in nearest(leaf, {k.rsplit(".", 1)[-1] for k in keys})
    ]
    same_leaf = [k for k in keys if leaf in (last := k.rsplit(".", 1)[-1], initials(last)) and k != key]
    suggestions = (same_leaf + [k for k in close if k not in same_leaf and k != key])[:3]
    hint = f"; did you mean {' or '.join(suggestions)}?" if suggestions else ""
    return f"{shown}: there is no key {key}{hint}; python run.py --help lists all"


def initials(key: str) -> str:
    """learning_rate -> lr."""
    return "".join(word[:1] for word in key.split("_"))


def known_keys() -> list[str]:
    """Every dotted key of every group, and of every registered method, task family, evaluator and launcher."""
    groups = [group for group in GROUPS if group != "hydra/launcher"]
    keys = {*GROUPS, *map(str, ConfigStore.instance().repo["schema.yaml"].node)}
    for group in [*groups, "hydra.launcher"]:
        keys |= {f"{group}.{key}" for known in schemas(group).values() for key in known}
    return sorted(keys)


def schemas(group: str) -> dict[str, list[str]]:
    """Name -> keys of what may be chosen in a group: a registered class, or a launcher's file."""
    if group == "hydra.launcher":
        files = sorted((CONFIGS / "hydra" / "launcher").glob("*.yaml"))
        return {path.stem: list(map(str, OmegaConf.load(path))) for path in files}
    nodes = ConfigStore.instance().repo["schema"].get(group, {})
    return {file.removesuffix(".yaml"): list(keys_of(stored.node)) for file, stored in sorted(nodes.items())}


def keys_of(node: Any, prefix: str = "") -> Iterator[str]:
    """Keys of a schema, those of a key that holds keys itself with a dot."""
    for key in node:
        yield f"{prefix}{key}"
        inner = OmegaConf.get_type(node, key)
        if inner is not None and dataclasses.is_dataclass(inner):
            yield from keys_of(node[key], f"{prefix}{key}.")
