"""``python run.py -m method=kasa,lora seed=0,1,2``: compose and check every cell first, then run what is missing."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode

from ..budget import chosen
from ..errors import ConfigError, KasaCordaError
from ..interrupt import Interrupted
from ..report.console import print_sweep
from .cells import Cell, checked_cells
from .expand import expanded, without_grid
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
        first = without_grid(expanded(lines[0]).overrides)
        base = hydra.compose_config("config", first, run_mode=RunMode.MULTIRUN, with_log_configuration=False)
        check_launcher(base)
        every = checked_cells(hydra, lines)
        cells = [cell for cell in every if not cell.left_out]
        if all(cell.error for cell in cells):
            raise ConfigError(next((cell.error or cell.left_out or "" for cell in every), "the sweep is empty"))
        missing = {cell.directory.path: cell for cell in cells if cell.directory and cell.missing()}
        print(announcement(cells, len(missing)), flush=True)
        for note in notes(lines, every):
            print(note, flush=True)
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


def notes(lines: Sequence[Sequence[str]], cells: list[Cell]) -> list[str]:
    """What groups of methods leave out, and what budgets came to, each said once."""
    absent = {name: reason for line in lines for name, reason in expanded(line).absent.items()}
    found = [f"  left out: method={name}: {reason}" for name, reason in absent.items()]
    found += [f"  left out: {cell.left_out}" for cell in cells if cell.left_out]
    for cell in cells:
        if cell.config and cell.config.method.budget is not None:
            names = f"{cell.config.method.name} on {cell.config.model.name}"
            found.append(f"  budget of {names}: {chosen(cell.config).text()}")
    return list(dict.fromkeys(found))


def announcement(cells: list[Cell], missing: int) -> str:
    impossible = [cell for cell in cells if cell.error]
    done = len(cells) - missing - len(impossible)
    lines = [f"sweep of {len(cells)} cells: {missing} to run, {done} finished earlier, {len(impossible)} impossible"]
    lines += [f"  impossible: {' '.join(cell.overrides)}: {cell.error}" for cell in impossible[:5]]
    if len(impossible) > 5:
        lines.append(f"  ... and {len(impossible) - 5} more")
    return "\n".join(lines)
