"""``python run.py -m method=kasa,lora seed=0,1,2``: compose and check every cell first, then run what is missing."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any

from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import DictConfig

from ..budget import chosen
from ..errors import ConfigError, KasaCordaError
from ..interrupt import Interrupted
from ..queue import Done, Job, ordered, run
from ..report.console import print_sweep
from .cells import Cell, checked_cells, first_combination
from .expand import expanded, without_grid
from .explain import CONFIGS
from .launchers import check_launcher, run_cells, uses_queue
from .search import announced, choices, next_cells


def sweep(lines: Sequence[Sequence[str]]) -> int:
    """Run every combination of every line of overrides: 0 if every cell is finished (or it is a dry run), else 1."""
    return 0 if all(row["state"] == "finished" for row in swept(lines)) else 1


def swept(lines: Sequence[Sequence[str]]) -> list[dict[str, Any]]:
    """Run every combination of every line of overrides, with one table at the end, whose rows are returned.

    A dry run returns none. ConfigError if no combination is possible, Interrupted if interrupted. The launcher is that
    of the first line, and so is ``jobs``.
    """
    with initialize_config_dir(str(CONFIGS), version_base="1.3", job_name="run"):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        first = expanded(lines[0])
        overrides = first_combination(hydra, without_grid(first.overrides))
        base = hydra.compose_config("config", overrides, run_mode=RunMode.MULTIRUN, with_log_configuration=False)
        check_launcher(base)
        every = checked_cells(hydra, lines)
        cells = [cell for cell in every if not cell.left_out]
        if all(cell.error for cell in cells):
            raise ConfigError(next((cell.error or cell.left_out or "" for cell in every), "the sweep is empty"))
        print(announcement(cells, len(missing_cells(cells))), flush=True)
        for note in notes(lines, every):
            print(note, flush=True)
        if base.dry_run or not base.force:  # force makes anew what the choices depend on
            cells += further_cells(cells)
        if base.dry_run:
            tell_choices(cells)
            print_sweep([cell.row() for cell in cells])
            return []
        interrupted = False
        try:
            run_missing(hydra, base, cells, first.jobs)
        except (KeyboardInterrupt, Interrupted):
            interrupted = True
        except KasaCordaError as error:
            print(f"error: {error}", file=sys.stderr, flush=True)
        tell_choices(cells)
        rows = [cell.row() for cell in cells]
        print_sweep(rows)
        if interrupted:
            raise Interrupted("stopped; run the same command again to go on")
        return rows


def run_missing(hydra: Any, base: DictConfig, cells: list[Cell], jobs: int) -> None:
    """Run what is missing of ``cells``; those that chosen learning rates bring are appended, and run too."""
    if uses_queue(base):

        def more(done: list[Done]) -> list[Job]:
            cells.extend(new := further_cells(cells))
            return jobs_of(new)

        if first := jobs_of(cells):
            run(first, per_device=jobs, more=more)
        return
    missing = missing_cells(cells)
    while missing:
        by_job = dict(zip(jobs_of(missing), missing, strict=True))
        run_cells(hydra, base, [by_job[job].overrides for job in ordered(list(by_job))])
        cells += (new := further_cells(cells))
        missing = missing_cells(new)


def further_cells(cells: Sequence[Cell]) -> list[Cell]:
    """The cells of later stages that the finished ones have made known, and in turn those known by what is on disk."""
    new: list[Cell] = []
    while again := next_cells([*cells, *new])[0]:
        print(f"chosen learning rates: {len(again)} further cells, {len(missing_cells(again))} to run", flush=True)
        new += again
    return new


def tell_choices(cells: Sequence[Cell]) -> None:
    """What the searches came to, and which choices are still open."""
    for title, texts in (("chosen", choices(cells)), ("open", next_cells(cells)[1])):
        for text in texts[:10]:
            print(f"  {text}", flush=True)
        if len(texts) > 10:
            print(f"  ... and {len(texts) - 10} more {title}", flush=True)


def missing_cells(cells: Iterable[Cell]) -> list[Cell]:
    """The cells that are still to run, each run once."""
    return list({cell.directory.path: cell for cell in cells if cell.directory and cell.missing()}.values())


def jobs_of(cells: Iterable[Cell]) -> list[Job]:
    """What the queue is given of the cells that are still to run."""
    from ..queue.decides import claims_of, seconds_of

    jobs = []
    for cell in missing_cells(cells):
        assert cell.config is not None and cell.directory is not None
        command = ["python", "run.py", *cell.overrides]
        jobs.append(Job(cell.config, cell.directory, command, seconds_of(cell.config), claims_of(cell.config)))
    return jobs


def notes(lines: Sequence[Sequence[str]], cells: list[Cell]) -> list[str]:
    """What groups of methods leave out, and what budgets came to, each said once."""
    absent = {name: reason for line in lines for name, reason in expanded(line).absent.items()}
    found = [f"  left out: method={name}: {reason}" for name, reason in absent.items()]
    found += [f"  left out: {cell.left_out}" for cell in cells if cell.left_out]
    found += announced(cells)
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
