"""Write a lock file of the environment that a run was made in, from its result.json.

python scripts/rebuild_env.py runs/reviews/minilm/kasa/0123456789ab                  as text
python scripts/rebuild_env.py RUN_DIR --out requirements.lock                        as a file

Then: python -m venv env && env/bin/pip install -r requirements.lock, with the Python of its first lines.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import Any

from kasa_corda.errors import DataError, KasaCordaError
from kasa_corda.store import RunDirectory, write_atomically

OWN = "kasa-corda"
NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.!+_-]*")
TORCH_INDEX = "https://download.pytorch.org/whl"


def main(options: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run_dir", type=Path, help="run directory with a result.json")
    parser.add_argument("--out", type=Path, help="file to write; standard output by default")
    given = parser.parse_args(options)
    try:
        text = lock(RunDirectory(given.run_dir))
        if given.out is None:
            print(text, end="")
        else:
            write_atomically(given.out, text)
            print(given.out)
    except (KasaCordaError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return getattr(error, "exit_code", 1)
    return 0


def lock(run: RunDirectory) -> str:
    """Requirements that pip reads, with all that they can't say as comments.

    DataError if there is no result, or none that says what it was made with.
    """
    result = run.result()
    if result is None:
        raise DataError(f"{run.path} has no result.json; give the directory of a finished run")
    origin = result.get("provenance")
    if not isinstance(origin, dict):
        raise DataError(f"{run.path / 'result.json'} does not say what it was made with (provenance)")
    environment = origin.get("environment") or {}
    packages = environment.get("packages") or origin.get("versions") or {}
    pins = {_checked(NAME, name): _checked(VERSION, version) for name, version in packages.items()}
    if not pins:
        raise DataError(f"{run.path / 'result.json'} names no packages (provenance.environment)")
    whole = bool(environment.get("packages"))
    head = [
        f"# environment of run {_line(run.run_id)} ({_line(origin.get('date'))})",
        f"# Python {_line(origin.get('python'))} on {_line(environment.get('platform') or 'an unknown system')},"
        f" {_line(origin.get('device'))}",
        *([f"# CUDA {_line(environment['cuda'])}"] if environment.get("cuda") else []),
        *([] if whole else ["# this run only recorded its main packages; pip chooses the others"]),
        f"# {OWN} {pins.pop(OWN, '?')}: {_commit(origin.get('git'))}",
    ]
    index = torch_index(pins.get("torch", ""))
    return "\n".join([*head, *index, *(f"{name}=={version}" for name, version in sorted(pins.items()))]) + "\n"


def torch_index(version: str) -> list[str]:
    """The option with which pip finds a build that the Python package index doesn't have: 2.13.0+cpu, 2.9.0+cu128."""
    build = version.partition("+")[2]
    return [f"--extra-index-url {TORCH_INDEX}/{build}"] if re.fullmatch(r"cpu|cu\d+|rocm[\d.]+", build) else []


def _commit(git: Any) -> str:
    if not isinstance(git, dict) or not git.get("sha"):
        return "installed, not a checkout"
    changed = ", with uncommitted changes that this file can't give back" if git.get("dirty") else ""
    return f"git checkout {_line(git['sha'])}{changed}; then pip install --no-deps -e ."


def _checked(pattern: re.Pattern[str], text: Any) -> str:
    """A name or version; DataError for what pip could take for something else, such as an option or a path."""
    if not isinstance(text, str) or not pattern.fullmatch(text):
        raise DataError(f"provenance has {text!r} where the name or version of a package belongs")
    return text


def _line(value: Any) -> str:
    """A value for a comment, which must not end it."""
    return " ".join(str(value if value is not None else "?").split())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
