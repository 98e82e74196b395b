"""Downloads before compute: models and data sets that are not on this machine are fetched once, before the first run.

``python -m kasa_corda.queue.fetch`` does it in a process of its own, so that what it reads does not stay in memory.
What can't be fetched is an error of the runs that need it, and of no other.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..config import RunConfig
from ..errors import KasaCordaError
from .jobs import Job

CALIBRATES_LOCALLY = ("train", "tasks", "file")
"""calibration sets that need nothing beside the run's own data"""


def fetched(jobs: Sequence[Job], say: Callable[[str], None], known: dict[str, str | None]) -> dict[str, str]:
    """Fetch what these jobs miss; run directory -> error of each that can't have it.

    ``known`` remembers what was asked for before: name -> error or None.
    """
    needs = {str(job.directory.path): missing(job.config) for job in jobs}
    asked: dict[str, RunConfig] = {}
    for job in jobs:
        for name in needs[str(job.directory.path)]:
            if name not in known:
                asked.setdefault(name, job.config)
    if asked:
        say(f"downloads first: {', '.join(name.split(' #')[0] for name in asked)}")
        known |= _in_process(asked)
        for name in asked:
            if error := known[name]:
                say(f"download failed: {error}")
    failures = {}
    for directory, names in needs.items():
        if errors := [error for name in names if (error := known.get(name))]:
            failures[directory] = errors[0]
    return failures


def missing(config: RunConfig) -> list[str]:
    """Names of what this run needs and this machine may lack; the hub's data sets are always asked for."""
    found = []
    if not _has_model(config):
        found.append(f"model {config.model.name} #{config.model.revision} {config.model.hub_id}")
    further = getattr(config.task, "also_evaluate", None) or {}
    for task in [asdict(config.task), *further.values()]:
        if not _has_data(task, config):
            found.append(f"data of {task['name']} #{task.get('hub_revision')} {config.data_dir}")
    calibration = _calibration(config)
    if calibration is not None and calibration not in CALIBRATES_LOCALLY and not _data_folder(config):
        found.append(f"calibration {calibration} #{config.model.name}")
    return found


def fetch(name: str, config: RunConfig) -> None:
    """Bring one thing that ``missing`` named onto this machine."""
    from ..data import load_data

    if name.startswith("model "):
        from ..models.sources import locate

        locate(asdict(config.model))
        return
    task, data = load_data(config)
    if name.startswith("calibration "):
        from ..calibration.settings import check_calibration
        from ..calibration.sources import RunData

        check_calibration(config.calibration, config.model).load(
            RunData(task, data, _data_folder(config), config.selection)
        )


def _has_model(config: RunConfig) -> bool:
    from ..models.cache import is_complete
    from ..models.hub import cached_snapshot
    from ..models.sources import _package_model

    model = config.model
    if model.path or not (model.hub_id or model.package):
        return True
    if model.hub_id and cached_snapshot(model.hub_id, model.revision):
        return True
    return bool(model.package and is_complete(_package_model(model.package)))


def _has_data(task: dict[str, Any], config: RunConfig) -> bool:
    from ..models.cache import is_complete
    from ..models.packages import package_folder

    if task.get("generated") or _local(task, _data_folder(config)):
        return True
    if package := task.get("package"):
        return is_complete(package_folder(package))
    return not task.get("hub_id")


def _local(task: dict[str, Any], data_dir: Path | None) -> bool:
    """Whether data_dir has a folder for this task; what it lacks there is told when the run reads it."""
    name = task.get("folder")
    if data_dir is None or not name:
        return False
    return data_dir.name == name or any((data_dir / parent / name).is_dir() for parent in ("", "glue", "glue_data"))


def _data_folder(config: RunConfig) -> Path | None:
    from ..data import data_folder

    return data_folder(config)


def _calibration(config: RunConfig) -> str | None:
    from ..methods import METHODS

    if not METHODS[config.method.name].calibrated:
        return None
    calibration = config.calibration
    return str(getattr(calibration, "source", None) or getattr(calibration, "name", None))


def _in_process(asked: dict[str, RunConfig]) -> dict[str, str | None]:
    """Name -> error or None, found out by another process."""
    lines = [json.dumps({"name": n, "config": asdict(c)}, default=str) for n, c in asked.items()]
    process = subprocess.Popen(
        [sys.executable, "-m", "kasa_corda.queue.fetch"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        text=True,
        encoding="utf-8",
    )
    try:
        output, _ = process.communicate("\n".join(lines))
    finally:
        process.kill()
    found: dict[str, str | None] = dict.fromkeys(asked, "the process that fetches ended early")
    for line in output.splitlines():
        said = json.loads(line)
        found[said["name"]] = said["error"]
    return found


def main() -> int:
    from ..config.validate import typed

    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    requests = sys.stdin.read().splitlines()
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    os.dup2(2, 1)
    for request in requests:
        asked = json.loads(request)
        replies.write(
            json.dumps({"name": asked["name"], "error": _tried(asked["name"], typed(asked["config"]))}) + "\n"
        )
        replies.flush()
    return 0


def _end_with_parent(parent: int) -> None:
    import time

    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _tried(name: str, config: RunConfig) -> str | None:
    """Fetch, twice if the first attempt met an unsteady connection; the error if it failed."""
    from .causes import CONNECTION, cause_of

    for last in (False, True):
        try:
            fetch(name, config)
            return None
        except KasaCordaError as error:
            if last or cause_of(error) != CONNECTION:
                return str(error)
        except Exception as error:
            if last or cause_of(error) != CONNECTION:
                return f"{type(error).__name__}: {error}"
    return None


if __name__ == "__main__":
    sys.exit(main())
