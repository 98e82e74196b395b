"""``python run.py suite=pocket_glue [more overrides]``: a suite is a named list of sweeps, run as one."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

import yaml

from ..errors import ConfigError, unknown
from .explain import CONFIGS, group_options


def suite_lines(arguments: Sequence[str]) -> list[list[str]] | None:
    """The sweeps that the ``suite=`` among the arguments stands for, each as overrides, the other arguments appended.

    None without a suite. Appended overrides win, because a sweep takes the last value of a key that is given twice.
    """
    suites = [argument for argument in arguments if argument.startswith("suite=") and argument != "suite=null"]
    if not suites:
        return None
    others = [argument for argument in arguments if argument not in suites]
    return [[*line, *others] for name in suites[-1].removeprefix("suite=").split(",") for line in read_suite(name)]


def read_suite(name: str) -> list[list[str]]:
    """The sweeps of ``configs/suite/<name>.yaml``, each as overrides; ConfigError if there is no such file."""
    if name not in (options := group_options("suite")):
        raise ConfigError(unknown("suite", name, options))
    path = CONFIGS / "suite" / f"{name}.yaml"
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    lines = content.get("sweep") if isinstance(content, dict) else None
    if not (isinstance(lines, list) and lines and all(isinstance(line, str) for line in lines)):
        raise ConfigError(f"{path} must hold sweep: a list of override lines such as 'method=kasa,lora seed=0,1,2'")
    return [shlex.split(line) for line in lines]
