"""One of several processes of a run: ``accelerate launch -m kasa_corda.worker RUN_DIR -- COMMAND ...``."""

from __future__ import annotations

import sys
from pathlib import Path

from .config.validate import typed
from .errors import KasaCordaError
from .pipeline import run
from .store import RunDirectory, write_atomically


def main(arguments: list[str]) -> int:
    directory = RunDirectory(Path(arguments[0]))
    command = arguments[2:]
    told = directory.path / "error.txt"
    told.unlink(missing_ok=True)
    plain = directory.config()
    if plain is None:
        raise SystemExit(f"{directory.path} has no config.yaml")
    try:
        run(typed(plain), directory, command)
    except KasaCordaError as error:
        write_atomically(told, str(error))
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
