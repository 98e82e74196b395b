"""One of several processes of a run: ``accelerate launch -m kasa_corda.worker RUN_DIR ACCUMULATION -- COMMAND ...``."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path

from .config.validate import typed
from .errors import KasaCordaError
from .launch import accumulating, explain_crash
from .pipeline import run
from .store import RunDirectory, write_atomically


def main(arguments: list[str]) -> int:
    directory = RunDirectory(Path(arguments[0]))
    accumulation, command = int(arguments[1]), arguments[3:]
    told = directory.path / "error.txt"
    told.unlink(missing_ok=True)
    plain = directory.config()
    if plain is None:
        raise SystemExit(f"{directory.path} has no config.yaml")
    try:
        run(accumulating(typed(plain), accumulation), directory, command)
    except KasaCordaError as error:
        write_atomically(told, str(error))
        return error.exit_code
    except Exception as error:
        traceback.print_exc()
        write_atomically(told, explain_crash(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
