"""``python run.py [overrides] --help``: groups with their options, keys with value and meaning, exit codes."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from ..config import RunConfig, field_help
from ..methods.groups import ALL
from ..methods.groups import GROUPS as METHOD_GROUPS
from .explain import CONFIGS, GROUPS, group_options
from .suites import abouts

USAGE = """\
Train and evaluate one model with one PEFT method on one task, or sweep over many.

  python run.py method=kasa task=glue/sst2            one run
  python run.py -m method=kasa,lora seed=0,1,2        a sweep; reruns do only what is missing
  python run.py -m method=all trainer.learning_rate=grid task=glue/cola
                                                      all that fit, each over its own learning rates
                                                      (then the report with --tuned learning_rate);
                                                      tuned_seeds=0,1,2 runs the best of each again
  python run.py suite=pocket_glue                     a suite: a named list of sweeps
  python run.py dry_run=true ...                      what would run
  python run.py --cfg job ...                         the composed config
  python -m kasa_corda.report runs                    tables of everything in runs/
"""
CLOSING = """\
Exit code: 0 done, 1 failed, 2 wrong request, 130 interrupted (run again to go on).
Tab completion in bash: eval "$(python run.py -sc install=bash)"
Flags of Hydra: python run.py --hydra-help"""
KEY_WIDTH = 44


def help_text(overrides: Sequence[str]) -> str:
    """The page for one command line: its keys have the values that its run would have."""
    with initialize_config_dir(str(CONFIGS), version_base="1.3", job_name="run"):
        config = compose("config", list(overrides))
    groups = [(group, options(group)) for group in GROUPS if group != "hparams"]
    index = [group for group, _ in groups].index("method")
    groups.insert(index + 1, ("method (with -m)", f"{ALL}, {', '.join(METHOD_GROUPS)}"))
    columns = min(shutil.get_terminal_size((100, 24)).columns, 120)
    return "\n".join(
        [
            USAGE,
            "Groups: choose with group=option",
            *(entry(group, options, 18, columns) for group, options in groups),
            "",
            "Suites: run with suite=name; protocol=as_published runs the papers' single settings, untuned",
            *(entry(name, about, 26, columns) for name, about in abouts()),
            "",
            "Keys: set with key=value; shown is the value for this command line (all keys: docs/config.md)",
            *(entry(key, meaning, KEY_WIDTH, columns) for key, meaning in keys(config)),
            "",
            CLOSING,
        ]
    )


def options(group: str) -> str:
    return "named lists of sweeps, see below" if group == "suite" else ", ".join(group_options(group))


def keys(config: DictConfig) -> Iterable[tuple[str, str]]:
    """(key=value, meaning) of every key of the run, top-level keys first."""
    groups = [str(name) for name, value in config.items() if isinstance(value, DictConfig)]
    values = OmegaConf.to_container(config, resolve=True)
    assert isinstance(values, dict)
    for row in field_help(RunConfig):
        if row.name not in groups:
            yield f"{row.name}={shown(values[row.name])}", described(row)
    for group in groups:
        schema = OmegaConf.get_type(config, group)
        assert schema is not None
        for row in field_help(schema):
            yield f"{group}.{row.name}={shown(values[group][row.name])}", described(row)


def described(row: Any) -> str:
    choices = row.limits.get("choices")
    return f"{row.help} ({', '.join(choices)})" if choices else row.help


def shown(value: Any) -> str:
    """A value as it would be typed, cut where it is long."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = f"[{','.join(map(str, value))}]" if isinstance(value, list) else str(value)
    return text if len(text) <= 24 else text[:21] + "..."


def entry(name: str, text: str, indent: int, columns: int) -> str:
    """``  name   text``, the text wrapped in a column of its own."""
    start = f"  {name}".ljust(indent)
    lines = textwrap.wrap(text, max(columns - indent, 30), break_on_hyphens=False) or [""]
    head = [start + lines[0]] if start.endswith(" ") or len(start) < indent else [start, " " * indent + lines[0]]
    return "\n".join([*head, *(" " * indent + line for line in lines[1:])])
