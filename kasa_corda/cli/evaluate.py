"""The command that scores an untrained model, or one with a stored adapter, on several tasks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra.core.config_store import ConfigStore

from ..config import register
from ..errors import ConfigError, unknown
from .explain import group_options

USAGE = """\
Score a model as it is, or with a stored adapter; nothing trains. Finished results are kept and reused.

  python -m kasa_corda.evaluate model=smollm2_135m task=gsm8k,nq_open
  python -m kasa_corda.evaluate adapter=runs/gsm8k/smollm2_135m/kasa/0123456789ab task=gsm8k,nq_open
  python -m kasa_corda.evaluate model=MODEL adapter=ADAPTER task=humaneval task.test_examples=50 data_dir=FOLDER

model     a name of configs/model, a local folder (config.json, safetensors) or a hub id; by default the adapter's
adapter   a PEFT adapter (folder or hub id, safetensors only), or a run directory of run.py
task      one or more tasks that generate text; with an adapter that stores its head also tasks with classes
Every other key=value of run.py works too: evaluator.batch_size=8, task.test_examples=50, model.dtype=bfloat16,
run_root=DIR, dry_run=true, force=true.
Results lie in runs/TASK/MODEL/{base,adapter}/ID/ and stand in the tables of python -m kasa_corda.report runs.
"""
OWN = ("model", "adapter", "task", "method", "method.path")


def main(arguments: Sequence[str]) -> int:
    """Exit code: 0 done, 1 failed, 2 wrong request, 130 interrupted."""
    from . import exit_code, listed

    arguments = [listed(argument) for argument in arguments]
    if not arguments or {"-h", "--help"} & set(arguments):
        print(USAGE, end="")
        return 0
    return exit_code(lambda: scored(arguments), list(arguments))


def scored(arguments: Sequence[str]) -> int:
    """Evaluate what is missing and print every score; 0 if all is there."""
    from ..report.console import print_scores
    from .form import check_form
    from .sweep import swept

    register(ConfigStore.instance())
    check_form(list(arguments))
    rows = swept([overrides(arguments)])
    if finished := [_result(row) for row in rows if row["state"] == "finished"]:
        print_scores(finished)
    return 0 if all(row["state"] == "finished" for row in rows) else 1


def overrides(arguments: Sequence[str]) -> list[str]:
    """What ``run.py -m`` would be given."""
    given = dict(argument.split("=", 1) for argument in arguments if "=" in argument)
    if flags := [argument for argument in arguments if "=" not in argument]:
        raise ConfigError(f"{flags[0]!r} is not of the form key=value; see --help")
    if "method" in given:
        raise ConfigError(f"method={given['method']}: nothing trains here; give adapter=DIR, or use run.py")
    if not given.get("task"):
        raise ConfigError("task is missing; give one or more, such as task=gsm8k,nq_open")
    adapter = given.get("adapter")
    folder = None if adapter is None else _adapter(adapter)
    named = given.get("model") or (folder and _base_model(folder))
    if not named:
        raise ConfigError("model is missing; give a name of configs/model, a folder or a hub id")
    method = ["method=base"] if folder is None else ["method=adapter", f"method.path={folder}"]
    rest = [argument for argument in arguments if argument.split("=", 1)[0] not in OWN]
    return [*_model(named), *method, f"task={given['task']}", *rest]


def _model(name: str) -> list[str]:
    """The overrides that choose a model by name, folder or hub id."""
    if name in group_options("model"):
        return [f"model={name}"]
    if Path(name).expanduser().is_dir():
        return ["model=local", f"model.path={Path(name).expanduser().resolve()}"]
    if name.count("/") != 1:
        raise ConfigError(unknown("model", name, group_options("model")) + "; or give a folder or a hub id")
    from ..models.hub import cached_snapshot, fetch_snapshot

    snapshot = cached_snapshot(name, None) or fetch_snapshot(name, None)
    return ["model=local", f"model.path={snapshot}", f"model.name={name.split('/')[1]}"]


def _adapter(name: str) -> Path:
    """The adapter's folder, fetched from the hub if it is no local one."""
    from ..methods.untrained import adapter_folder
    from ..models.hub import fetch_adapter

    if Path(name).expanduser().is_dir() or name.count("/") != 1:
        return adapter_folder(name).resolve()
    return adapter_folder(str(fetch_adapter(name)))


def _base_model(folder: Path) -> str | None:
    """What the adapter was trained on: from its run directory, else from PEFT's description."""
    try:
        run = folder.parent / "config.yaml"
        if run.is_file():
            model: dict[str, Any] = yaml.safe_load(run.read_text(encoding="utf-8"))["model"]
            return str(model.get("path") or model["name"])
        described = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        return described.get("base_model_name_or_path")
    except (OSError, ValueError, KeyError):
        return None


def _result(row: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((Path(row["run_dir"]) / "result.json").read_text(encoding="utf-8"))
    return found
