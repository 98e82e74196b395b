"""``python scripts/plan.py suite=NAME``: the cells of a suite, composed and checked, as runs that a plan adds up."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra

from ..config import register
from ..cost.machine import Machine
from ..cost.plan import Plan, PlannedRun, make_plan, plan_text
from ..cost.profile import Profile, profile_for
from ..errors import ConfigError
from ..search.stages import TRIALS
from .cells import Cell, checked_cells
from .explain import CONFIGS, group_options
from .search import next_cells, searched
from .suites import read_suite, suite_lines

SMALLER = ("pocket", "smoke")
"""suites to fall back on, the nearest to the papers first"""
STAGES = 8
"""stages of a search that may lie on disk: three extensions, a refinement, fresh seeds, and those of grids"""


def planned(arguments: Sequence[str], machine: Machine, *, jobs: int = 1, profile: Profile | None = None) -> Plan:
    """The plan of ``suite=NAME [overrides]``; ConfigError without a suite or where no line of it can be composed."""
    lines = suite_lines(list(arguments))
    if lines is None:
        raise ConfigError("which suite? python scripts/plan.py suite=pocket [overrides]")
    names = next(a for a in reversed(arguments) if a.startswith("suite=")).removeprefix("suite=")
    register(ConfigStore.instance())
    with initialize_config_dir(str(CONFIGS), version_base="1.3", job_name="run"):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        cells = [cell for cell in checked_cells(hydra, lines) if not cell.left_out]
        cells = with_stages(cells)
    claims = len({claim for name in names.split(",") for claim in read_suite(name).claims})
    impossible = [(" ".join(cell.overrides), cell.error) for cell in cells if cell.error]
    runs = [*distinct(cells), *later(cells)]
    return make_plan(names, runs, impossible, machine, profile or profile_for(), jobs=jobs, claims=claims)


def with_stages(cells: list[Cell]) -> list[Cell]:
    """The cells, and those of later stages that finished runs have already decided."""
    found = list(cells)
    for _ in range(STAGES):
        again, _ = next_cells(found)
        if not again:
            break
        found += again
    return found


def distinct(cells: Sequence[Cell]) -> list[PlannedRun]:
    """Each run once, in the order of the cells."""
    found: dict[Path, PlannedRun] = {}
    for cell in cells:
        if cell.config is not None and cell.directory is not None and cell.directory.path not in found:
            state = cell.directory.state()
            shown = state if state in ("finished", "failed") and not cell.config.force else "new"
            found[cell.directory.path] = PlannedRun(cell.config, cell.directory, shown)
    return list(found.values())


def later(cells: Sequence[Cell]) -> list[PlannedRun]:
    """Runs whose learning rate is chosen on the way, one entry per setting: how many, and what they are like.

    Extensions of a search, which happen where the best rate is at the edge, are not counted.
    """
    found = []
    tested = {cell.family for cell in cells if cell.config and not cell.search}
    for members in searched(cells):
        first = members[0]
        assert first.config is not None
        seeds = {cell.plain["seed"] for cell in members}
        if (trials := TRIALS * len(seeds) - len(members)) > 0:
            found.append(PlannedRun(first.config, None, "later", trials))
        fresh = first.variation(evaluator__test=True)
        if first.tuned_seeds and fresh.family not in tested:
            config = replace(first.config, evaluator=replace(first.config.evaluator, test=True))
            found.append(PlannedRun(config, None, "later", len(first.tuned_seeds)))
    return [*found, *_later_of_grids(cells)]


def _later_of_grids(cells: Sequence[Cell]) -> list[PlannedRun]:
    families: dict[str, list[Cell]] = {}
    for cell in cells:
        if cell.config and not cell.search:
            families.setdefault(cell.family, []).append(cell)
    found = []
    for members in families.values():
        asking = [cell for cell in members if cell.tuned_seeds]
        if not asking or any(not cell.tuned_seeds for cell in members):
            continue  # no second stage, or it is there
        first, seeds = asking[0], {cell.plain["seed"] for cell in members}
        assert first.config is not None
        if new := [seed for seed in first.tuned_seeds if seed not in seeds]:
            found.append(PlannedRun(first.config, None, "later", len(new)))
    return found


def nearest_suite(name: str, overrides: Sequence[str], machine: Machine, jobs: int) -> str | None:
    """The first smaller suite that this machine can do."""
    known = group_options("suite")
    after = SMALLER[SMALLER.index(name) + 1 :] if name in SMALLER else SMALLER
    for smaller in after:
        if smaller in known and not planned([f"suite={smaller}", *overrides], machine, jobs=jobs).lacks():
            return smaller
    return None


def gate(
    plan: Plan,
    overrides: Sequence[str],
    *,
    ask: Callable[[str], str] = input,
    tty: bool | None = None,
    smaller: Callable[..., str | None] = nearest_suite,
) -> int:
    """0 if the suite may start: the machine can do it, and CONFIRM=yes or a person at the terminal says so. Else 1."""
    if lacks := plan.lacks():
        print(f"\nthis machine can't do suite={plan.suite}; it would need:")
        for text in lacks:
            print(f"  - {text}")
        other = smaller(plan.suite, overrides, plan.machine, plan.jobs)
        if other:
            target = "make reproduce-pocket" if other == "pocket" else f"python run.py suite={other}"
            print(f"the nearest suite that it can do: suite={other} ({target})")
        else:
            print("none of the smaller suites fits either")
        return 1
    if os.environ.get("CONFIRM", "").lower() == "yes":
        return 0
    if not (sys.stdin.isatty() if tty is None else tty):
        print("\nnothing was started: CONFIRM=yes starts it (there is no terminal to ask)")
        return 1
    answer = ask("\nstart? [y/N] ").strip().lower()
    if answer in ("y", "yes"):
        return 0
    print("nothing was started")
    return 1


__all__ = ["gate", "later", "nearest_suite", "plan_text", "planned"]
