"""``python run.py suite=pocket_glue [more overrides]``: a suite is a named list of sweeps, run as one.

A file of ``configs/suite/`` has these keys:

about      one sentence, shown by --help
include    names of other suites, whose lines come first; a line that several of them have is one line
shared     overrides put before every line of this file
sweep      lines of overrides, run as they are
compare    lines of overrides without seed and learning rate: each is run by the protocol
fair       what ``protocol=fair`` (the default) puts behind each line of compare; ``FAIR`` if it is not given
published  what ``protocol=as_published`` does; ``PUBLISHED`` if it is not given
claims     ids of the claims (kasa_corda/paper/claims.yaml) that its cells decide
table      what of the paper it is, or ``figure``
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ..errors import ConfigError, nearest, unknown
from .explain import CONFIGS, group_options

FRESH_SEEDS = "100,101,102,103,104"
"""seeds of runs with test scores; no learning rate was chosen with them"""

FAIR = (
    f"selection=held_out seed={FRESH_SEEDS}",
    f"selection=held_out trainer.learning_rate=search seed=0,1 tuned_seeds={FRESH_SEEDS}",
)
"""each method at the paper's learning rate, and at its own, chosen on held-out data"""

PUBLISHED = ("selection=paper seed=0",)
"""the one setting of the papers: the best epoch on the evaluation set itself"""

PROTOCOLS = {"fair": ("fair", FAIR), "as_published": ("published", PUBLISHED)}
"""value of ``protocol=`` -> key of a suite's file, and what holds without it"""

LISTS = ("sweep", "compare", "fair", "published", "include", "claims")
TEXTS = ("about", "shared", "table", "figure")


@dataclass(frozen=True)
class Suite:
    """One suite under one protocol, those that it includes among it."""

    name: str
    about: str
    lines: list[list[str]]
    """the sweeps, each as overrides; each line once"""
    claims: tuple[str, ...] = ()
    """ids of the claims that its cells, or those of included suites, decide"""
    table: str | None = None
    figure: str | None = None
    include: tuple[str, ...] = ()


def suite_lines(arguments: Sequence[str]) -> list[list[str]] | None:
    """The sweeps that the ``suite=`` among the arguments stands for, each as overrides, the other arguments appended.

    None without a suite. Appended overrides win, because a sweep takes the last value of a key that is given twice.
    ``protocol=as_published`` belongs to the suite, not to its runs.
    """
    suites = [argument for argument in arguments if argument.startswith("suite=") and argument != "suite=null"]
    if not suites:
        return None
    protocols = [argument for argument in arguments if argument.startswith("protocol=")]
    others = [argument for argument in arguments if argument not in (*suites, *protocols)]
    protocol = protocols[-1].removeprefix("protocol=") if protocols else "fair"
    names = suites[-1].removeprefix("suite=").split(",")
    lines = _once(line for name in names for line in read_suite(name, protocol).lines)
    return [[*line, *others] for line in lines]


def read_suite(name: str, protocol: str = "fair") -> Suite:
    """The suite ``configs/suite/<name>.yaml``; ConfigError for an unknown name, a damaged file or circular includes."""
    if protocol not in PROTOCOLS:
        raise ConfigError(unknown("protocol", protocol, PROTOCOLS))
    return _read(name, protocol, ())


def abouts() -> list[tuple[str, str]]:
    """(name, what it is about) of every suite, read without a YAML parser, which would take longer than the rest of
    --help."""
    found = []
    for name in group_options("suite"):
        with _path(name).open(encoding="utf-8") as file:
            first = next((line for line in file if line.startswith("about:")), "about:")
        found.append((name, first.removeprefix("about:").strip().strip("\"'")))
    return found


def _read(name: str, protocol: str, within: tuple[str, ...]) -> Suite:
    if name in within:
        raise ConfigError(f"suites include each other in a circle: {' -> '.join((*within, name))}")
    if name not in (options := group_options("suite")):
        raise ConfigError(unknown(f"{_path(within[-1])}: include" if within else "suite", name, options))
    content = _content(_path(name))
    included = [_read(other, protocol, (*within, name)) for other in content.get("include", ())]
    key, standard = PROTOCOLS[protocol]
    endings = content.get(key, standard)
    own = [*content.get("sweep", ()), *(f"{line} {end}" for line in content.get("compare", ()) for end in endings)]
    lines = [shlex.split(f"{content.get('shared', '')} {line}") for line in own]
    claims = [*(claim for suite in included for claim in suite.claims), *content.get("claims", ())]
    return Suite(
        name,
        content.get("about", ""),
        _once([*(line for suite in included for line in suite.lines), *lines]),
        tuple(dict.fromkeys(claims)),
        content.get("table"),
        content.get("figure"),
        tuple(content.get("include", ())),
    )


def _content(path: Path) -> dict[str, Any]:
    """A suite's file, every key checked."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        content = {}
    for key in content:
        if key not in (*LISTS, *TEXTS):
            close = nearest(key, (*LISTS, *TEXTS), limit=1)
            hint = f"; did you mean {close[0]}?" if close else f"; there are {', '.join((*LISTS, *TEXTS))}"
            raise ConfigError(f"{path} has an unknown key {key}{hint}")
    for keys, fits, wanted in (
        (("sweep", "compare", "fair", "published"), _texts, "override lines such as 'method=kasa,lora seed=0,1,2'"),
        (("include", "claims"), _texts, "names"),
    ):
        _check(path, content, keys, fits, f"a list of {wanted}")
    _check(path, content, TEXTS, lambda value: isinstance(value, str), "a text")
    if not any(content.get(key) for key in ("sweep", "compare", "include")):
        raise ConfigError(f"{path} must hold sweep: a list of override lines, or compare: or include:")
    return content


def _check(path: Path, content: dict[str, Any], keys: Sequence[str], fits: Callable[[Any], bool], wanted: str) -> None:
    for key in keys:
        if key in content and not fits(content[key]):
            raise ConfigError(f"{path} must hold {key}: {wanted}")


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def _once(lines: Iterable[list[str]]) -> list[list[str]]:
    return [list(line) for line in dict.fromkeys(map(tuple, lines))]


def _path(name: str) -> Path:
    return CONFIGS / "suite" / f"{name}.yaml"
