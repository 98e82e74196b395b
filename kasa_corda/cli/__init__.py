"""The command line: one run, a sweep, a dry run, and every error as one sentence.

This package and ``run.py`` are the only places that import Hydra.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ..errors import ConfigError, KasaCordaError
from .explain import TRANSLATED, explained
from .form import check_form
from .suites import suite_lines

# configs/hydra/launcher has files named like the plugins' own settings, on purpose: they are then checked against these
warnings.filterwarnings("ignore", r"\s*'hydra/launcher/\w+' is validated against ConfigStore schema")

SWEEP, HELP = {"-m", "--multirun"}, {"-h", "--help"}


def entry(main: Callable[[], Any], argv: list[str]) -> int:
    """Run the command line and return the exit code: 0 done, 1 failed, 2 wrong request, 130 interrupted."""
    os.environ["HYDRA_FULL_ERROR"] = "1"
    outcome["code"] = 0
    argv[1:] = arguments = [listed(argument) for argument in argv[1:]]
    return exit_code(lambda: run_or_sweep(main, argv), arguments)


def run_or_sweep(main: Callable[[], Any], argv: list[str]) -> int:
    arguments = argv[1:]
    flags = {argument.split("=")[0] for argument in arguments if argument.startswith("-")}
    overrides = [argument for argument in arguments if argument not in SWEEP | HELP]
    check_form(arguments)
    if flags & HELP:
        from .help import help_text

        print(help_text([override for override in overrides if not override.startswith(("-", "suite="))]))
        return 0
    lines = suite_lines(overrides)
    if lines or flags & SWEEP:
        if flags - SWEEP:
            raise ConfigError(f"{sorted(flags - SWEEP)[0]} is for one run; leave out -m and suite=")
        from .sweep import sweep

        return sweep(lines or [overrides])
    if "--cfg" in flags and any(override.startswith("method.budget=") for override in overrides):
        sys.argv = [part for argument in argv for part in settled(argument, overrides)]
    main()
    return outcome["code"]


def listed(argument: str) -> str:
    """``evaluator.forgetting=a,b`` as the list it always means; Hydra would take it for a sweep."""
    key, _, value = argument.partition("=")
    return f"{key}=[{value}]" if key == "evaluator.forgetting" and "," in value and value[0] != "[" else argument


def settled(argument: str, overrides: list[str]) -> list[str]:
    """The argument, followed by what it comes to if it is a budget, so that the composed config shows that."""
    from ..budget import scaling_option
    from .compose import composed

    if not argument.startswith("method.budget="):
        return [argument]
    given = [o for o in overrides if "=" in o and not o.startswith("-")]
    method = composed(given).method
    option = scaling_option(method)
    return [argument, f"method.{option}={getattr(method, str(option))}"] if option and method.budget else [argument]


def exit_code(work: Callable[[], int], arguments: list[str]) -> int:
    """What ``work`` returns; where it is wrong or stopped, one sentence on stderr and the code for it."""
    try:
        return work()
    except KasaCordaError as error:
        return complain(str(error), error.exit_code)
    except TRANSLATED as error:
        return complain(explained(error, arguments), 2)
    except OSError as error:  # a folder of Hydra's, such as hydra.run.dir
        return complain(f"{error.filename or 'a file'} can't be used ({error.strerror or error})", 1)
    except KeyboardInterrupt:
        return complain("stopped", 130)


def complain(message: str, code: int) -> int:
    print(f"error: {message}" if code != 130 else message, file=sys.stderr)
    return code


outcome = {"code": 0}
"""exit code of the run that Hydra called; raising through Hydra would print its own lines first"""


def single(config: DictConfig) -> None:
    """One composed run, called by Hydra: plan it (dry_run) or execute it, then show its result."""
    try:
        execute(config)
    except KasaCordaError as error:
        outcome["code"] = complain(str(error), error.exit_code)


def execute(config: DictConfig) -> None:
    from ..launch import launch, prepare

    checked, directory = prepare(plain(config))
    if checked.dry_run:
        from ..plan import plan, plan_text

        print(plan_text(plan(checked, directory)))
        return
    from ..report.console import print_run

    reused = directory.state() == "finished" and not checked.force
    result = launch(checked, directory, sys.orig_argv)
    if reused:
        print("this run is finished; force=true runs it again")
    print_run(result, directory.path)


def plain(config: DictConfig) -> dict[str, Any]:
    """The composed config without interpolations."""
    container = OmegaConf.to_container(config, resolve=True)
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items() if key != "hydra"}
