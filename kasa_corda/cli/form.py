"""What can be wrong with an argument before anything is composed."""

from __future__ import annotations

import os
import re

from hydra._internal.utils import get_args_parser

from ..errors import ConfigError, nearest, unknown
from .explain import GROUPS, group_options, known_keys

RERUN = "--experimental-rerun"
"""needs a pickle that runs here don't write"""
COMPLETION = ("-sc", "--shell-completion")


def check_completion(arguments: list[str]) -> None:
    """ConfigError unless a shell is named, and for a question what has been typed."""
    wanted = [argument for argument in arguments if argument not in COMPLETION]
    if len(wanted) != 1 or not re.fullmatch(r"(install|uninstall|query)=(bash|zsh|fish)", wanted[0]):
        raise ConfigError(f"{COMPLETION[0]} {' '.join(wanted)}: give install=bash, or zsh or fish")
    if wanted[0].startswith("query=") and "COMP_LINE" not in os.environ:
        raise ConfigError(f"{COMPLETION[0]} {wanted[0]} is for the shell, which sets COMP_LINE")


def check_form(arguments: list[str]) -> None:
    """ConfigError for an argument that can't be an override or a flag of Hydra."""
    if "--resolve" in arguments and not {*arguments} & {"--cfg", "-c", "--help", "-h"}:
        raise ConfigError("--resolve shows a config without interpolations; add --cfg job")
    if any(argument.partition("=")[0] == RERUN for argument in arguments):
        raise ConfigError(f"{RERUN} is not used here; python run.py --help shows what is")
    if {*arguments} & {*COMPLETION}:
        check_completion(arguments)
        return
    flags = {name for action in get_args_parser()._actions for name in action.option_strings}
    for argument in arguments:
        key, _, value = argument.partition("=")
        if "=" in argument and not key.strip("+~ "):
            raise ConfigError(f"{argument!r} is not of the form key=value")
        if argument.startswith("-") and key not in flags:
            close = nearest(key.strip("-").replace("-", "_"), known_keys(), limit=1)
            hint = f"; did you mean {close[0]}={value or '...'}?" if close else ""
            raise ConfigError(f"{key} is not an option, and keys are set as key=value without dashes{hint}")
        if argument.startswith("~"):
            name = key.removeprefix("~")
            raise ConfigError(f"{argument} removes {name}, but a run needs all its keys; set it with {name}=VALUE")
        if key in GROUPS and re.fullmatch(r"[-+.\d]+|true|false", value, re.IGNORECASE):
            raise ConfigError(unknown(key, value, group_options(key)))
