"""What can be wrong with an argument before anything is composed."""

from __future__ import annotations

import re

from hydra._internal.utils import get_args_parser

from ..errors import ConfigError, nearest, unknown
from .explain import GROUPS, group_options, known_keys


def check_form(arguments: list[str]) -> None:
    """ConfigError for an argument that can't be an override or a flag of Hydra."""
    flags = {name for action in get_args_parser()._actions for name in action.option_strings}
    for argument in arguments:
        key, _, value = argument.partition("=")
        if argument.startswith("="):
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
