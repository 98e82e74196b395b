"""``python run.py -m method=kasa,lora seed=0,1,2``: compose and check every cell first, then run what is missing."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode

from ..budget import chosen
from ..errors import ConfigError, KasaCordaError
from ..interrupt import Interrupted
from ..report.console import print_sweep
from .cells import Cell, checked_cells, first_combination
from .expand import expanded, without_grid
from .explain import CONFIGS
from .launchers import check_launcher, run_cells
from .tuned import second_stage


def sweep(lines: Sequence[Sequence[str]]) -> int:
    """Run every combination of every line of overrides: 0 if every cell is finished (or it is a dry run), else 1."""
    return 0 if all(row["state"] == "finished" for row in swept(lines)) else 1


def swept(lines: Sequence[Sequence[str]]) -> list[dict[str, Any]]:
    """Run every combination of every line of overrides, with one table at the end, whose rows are returned.

    A dry run returns none. ConfigError if no combination is possible, Interrupted if interrupted. The launcher is that
    of the first line.
    """
    with initialize_config_dir(str(CONFIGS), version_base="1.3", job_name="run"):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        first = first_combination(hydra, without_grid(expanded(lines[0]).overrides))
        base = hydra.compose_config("config", first, run_mode=RunMode.MULTIRUN, with_log_configuration=False)
        check_launcher(base)
        every = checked_cells(hydra, lines)
        cells = [cell for cell in every if not cell.left_out]
        if all(cell.error for cell in cells):
            raise ConfigError(next((cell.error or cell.left_out or "" for cell in every), "the sweep is empty"))
        missing = missing_runs(cells)
        print(announcement(cells, len(missing)), flush=True)
        for note in notes(lines, every):
            print(note, flush=True)
        if base.dry_run:
            print_sweep([cell.row() for cell in [*cells, *chosen_again(cells)]])
            return []
        interrupted = False
        try:
            if missing:
                run_cells(hydra, base, missing)
            cells += (again := chosen_again(cells))
            if missing := missing_runs(again):
                run_cells(hydra, base, missing)
        except (KeyboardInterrupt, Interrupted):
            interrupted = True
        except KasaCordaError as error:
            print(f"error: {error}", file=sys.stderr, flush=True)
        rows = [cell.row() for cell in cells]
        print_sweep(rows)
        if interrupted:
            raise Interrupted("stopped; run the same command again to go on")
        return rows


def chosen_again(cells: Sequence[Cell]) -> list[Cell]:
    """The second stage of a sweep with ``tuned_seeds``, announced."""
    again, waiting = second_stage(cells)
    if again or waiting:
        print(f"chosen learning rates: {len(again)} further cells, {len(missing_runs(again))} to run", flush=True)
    print("".join(f"  {text}\n" for text in waiting[:5]), end="", flush=True)
    if len(waiting) > 5:
        print(f"  ... and {len(waiting) - 5} more", flush=True)
    return again


def missing_runs(cells: Sequence[Cell]) -> list[list[str]]:
    """The overrides of cells that are still to run, each run once."""
    found = {cell.directory.path: cell for cell in cells if cell.directory and cell.missing()}
    return [cell.overrides for cell in found.values()]


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
