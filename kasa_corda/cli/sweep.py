"""``python run.py -m method=kasa,lora seed=0,1,2``: compose and check every cell first, then run what is missing."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode

from ..errors import ConfigError, KasaCordaError
from ..interrupt import Interrupted
from ..report.console import print_sweep
from .cells import Cell, checked_cells
from .explain import CONFIGS
from .launchers import check_launcher, run_cells


def sweep(lines: Sequence[Sequence[str]]) -> int:
    """Run every combination of every line of overrides, with one table at the end.

    Returns 0 if every cell is finished, 1 if any failed; ConfigError if none is possible, Interrupted if interrupted.
    The launcher is that of the first line.
    """
    with initialize_config_dir(str(CONFIGS), version_base="1.3", job_name="run"):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        base = hydra.compose_config("config", list(lines[0]), run_mode=RunMode.MULTIRUN, with_log_configuration=False)
        check_launcher(base)
        cells = checked_cells(hydra, lines)
        if all(cell.error for cell in cells):
            raise ConfigError(cells[0].error or "the sweep is empty")
        missing = {cell.directory.path: cell for cell in cells if cell.directory and cell.missing()}
        print(announcement(cells, len(missing)), flush=True)
        if base.dry_run:
            print_sweep([cell.row() for cell in cells])
            return 0
        interrupted = False
        try:
            if missing:
                run_cells(hydra, base, [cell.overrides for cell in missing.values()])
        except (KeyboardInterrupt, Interrupted):
            interrupted = True
        except KasaCordaError as error:
            print(f"error: {error}", file=sys.stderr, flush=True)
        rows = [cell.row() for cell in cells]
        print_sweep(rows)
        if interrupted:
            raise Interrupted("stopped; run the same command again to go on")
        return 0 if all(row["state"] == "finished" for row in rows) else 1


def announcement(cells: list[Cell], missing: int) -> str:
    impossible = [cell for cell in cells if cell.error]
    done = len(cells) - missing - len(impossible)
    lines = [f"sweep of {len(cells)} cells: {missing} to run, {done} finished earlier, {len(impossible)} impossible"]
    lines += [f"  impossible: {' '.join(cell.overrides)}: {cell.error}" for cell in impossible[:5]]
    if len(impossible) > 5:
        lines.append(f"  ... and {len(impossible) - 5} more")
    return "\n".join(lines)
