"""List every method: family, source, what it trains, what it works with, and its parameters on a model.

python scripts/methods.py                                   on RoBERTa base
python scripts/methods.py model=llama2_7b method.rank=32    on another model, the option where a method has it
python scripts/methods.py model=minilm method.budget=0.1M   the ranks and widths that come nearest to 100,000
python scripts/methods.py --published                       the published parameter counts beside ours
python scripts/methods.py ... --csv                         as a table for other programs
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode

from kasa_corda.cli.cells import checked_cells
from kasa_corda.cli.explain import CONFIGS, TRANSLATED, explained, group_options
from kasa_corda.config import register
from kasa_corda.errors import ConfigError, KasaCordaError, unknown
from kasa_corda.methods import METHODS, Method
from kasa_corda.methods.unavailable import UNAVAILABLE
from kasa_corda.models.families import ARCHITECTURES

if TYPE_CHECKING:
    from kasa_corda.cli.cells import Cell

WIDTH = 160
"""columns where the output is not a terminal"""


@dataclass
class Row:
    """One method as the table shows it."""

    method: str
    family: str
    trains: str
    merges: str
    identity: str
    encoder: str
    decoder: str
    four_bit: str
    source: str
    parameters: int | None = None
    """trained on the model, without the task head"""
    head: int | None = None
    reason: str = ""
    """why there is no number of parameters, or what the budget came to"""
    refuses: dict[str, str] = field(default_factory=dict)
    """architecture -> why"""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", help="as for run.py: model=... task=... method.OPTION=...")
    parser.add_argument("--csv", action="store_true", help="write CSV instead of a table")
    parser.add_argument("--published", action="store_true", help="compare with the published parameter counts")
    chosen = parser.parse_args(arguments)
    overrides = chosen.overrides
    try:
        if chosen.published:
            published(overrides, as_csv=chosen.csv)
            return 0
        rows, model, task = listing(overrides)
    except TRANSLATED as error:
        print(f"error: {explained(error, overrides)}", file=sys.stderr)
        return 2
    except KasaCordaError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    if chosen.csv:
        columns = list(Row.__dataclass_fields__)
        values = [{**vars(row), "refuses": "; ".join(f"{k}: {v}" for k, v in row.refuses.items())} for row in rows]
        write_csv(columns, ([value[name] for name in columns] for value in values))
    else:
        show(rows, model, task)
    return 0


def listing(overrides: Sequence[str]) -> tuple[list[Row], str, str]:
    """(a row per method, registered ones first; names of model and task). ConfigError for wrong overrides."""
    register(ConfigStore.instance())
    if wrong := [o for o in overrides if o.partition("=")[0] == "method"]:
        raise ConfigError(f"{wrong[0]}: this lists all methods; leave it out")
    options = [o for o in overrides if o.startswith("method.")]
    check_options(options)
    common = [o for o in overrides if o not in options]
    with initialize_config_dir(str(CONFIGS), version_base="1.3", job_name="run"):
        hydra: Any = GlobalHydra.instance().hydra
        common = [*(() if given(common, "model") else ("model=roberta_base",)), *common]
        common = [*common, *(() if given(common, "task") else (usual_task(hydra, common),))]
        rows = []
        for name, method in METHODS.items():
            row = described(name, method)
            fitting = [o for o in options if option_of(o) in method.Config.__dataclass_fields__]
            if name in group_options("method"):
                (cell,) = checked_cells(hydra, [[f"method={name}", *common, *fitting]])
                model, task = cell.plain["model"]["name"], cell.plain["task"]["name"]
                count(row, cell)
            else:
                row.reason = f"configs/method/{name}.yaml is missing"
            rows.append(row)
    for name, reason in UNAVAILABLE.items():
        rows.append(Row(name, *"-" * 8, reason=f"definition not available: {reason}"))  # type: ignore[arg-type]
    return rows, model, task


def given(overrides: Iterable[str], key: str) -> bool:
    return any(override.partition("=")[0] == key for override in overrides)


def option_of(override: str) -> str:
    """rank of method.rank=8."""
    return override.partition("=")[0].removeprefix("method.")


def check_options(options: Iterable[str]) -> None:
    known = {name for _, method in METHODS.items() for name in method.Config.__dataclass_fields__}
    for override in options:
        if option_of(override) not in known:
            raise ConfigError(unknown("option of a method", option_of(override), known))


def usual_task(hydra: Any, overrides: list[str]) -> str:
    """Classification for an encoder, generation for a decoder."""
    from omegaconf import OmegaConf

    from kasa_corda.models.local import complete

    config = hydra.compose_config("config", overrides, run_mode=RunMode.RUN, with_log_configuration=False)
    model: Any = OmegaConf.to_container(config.model)
    return "task=gsm8k" if complete(model)["kind"] == "decoder" else "task=reviews"


def described(name: str, method: type[Method]) -> Row:
    facts = method.facts
    kinds = {kind: works_with(method, kind) for kind in ("encoder", "decoder")}
    yes = {True: "yes", False: "no"}
    return Row(
        name,
        facts.family,
        facts.trains,
        yes[facts.merges],
        yes[facts.identity],
        **kinds,
        four_bit=yes[facts.four_bit],
        source=facts.source,
        refuses=facts.refuses,
    )


def works_with(method: type[Method], kind: str) -> str:
    names = [name for name, architecture in ARCHITECTURES.items() if architecture.kind == kind]
    refused = [name for name in names if name in method.facts.refuses]
    if len(refused) == len(names):
        return "no"
    limits = [f"not {', '.join(refused)}"] if refused else []
    limits += ["with a task head"] if method.needs_head and kind == "decoder" else []
    return "; ".join(limits) or "yes"


def count(row: Row, cell: Cell) -> None:
    """Fill in the parameters, counted as a dry run does, or why there are none."""
    from kasa_corda.budget import choice_of
    from kasa_corda.plan import counted, planned_steps

    if cell.config is None:
        row.reason = cell.error or ""
        return
    try:
        counts = counted(cell.config, planned_steps(cell.config)[1] or 0)[1]
    except KasaCordaError as error:
        row.reason = str(error)
        return
    row.parameters, row.head = counts["adapter"], counts["head"]
    choice = choice_of(cell.config.method, row.parameters)
    row.reason = choice.text() if choice else ""


def show(rows: list[Row], model: str, task: str) -> None:
    """The table, then why some methods have no number, then what the methods refuse."""
    from rich.text import Text

    heads = {row.head for row in rows if row.head}
    beside = f"; the task head has {max(heads):,} more" if heads else ""
    columns = (
        "method",
        "family",
        "trains",
        "merges",
        "identity",
        "encoder",
        "decoder",
        "4-bit",
        "source",
        "parameters",
    )
    table, console = new_table(columns)
    for row in rows:
        number = "-" if row.parameters is None else f"{row.parameters:,}"
        cells = (row.method, row.family, row.trains, row.merges, row.identity, row.encoder, row.decoder, row.four_bit)
        table.add_row(*(Text(cell) for cell in (*cells, row.source, number)))
    console.print(table)
    lines = [f"parameters: trained on {model} for {task}, without the task head{beside}"]
    lines += ["identity: whether the model is unchanged before the first step"]
    lines += [f"{row.method}: {row.reason}" for row in rows if row.reason]
    refused: dict[str, list[str]] = {}
    for row in rows:
        for architecture, reason in row.refuses.items():
            refused.setdefault(f"{row.method} refuses {{}}: {reason}", []).append(architecture)
    lines += [line.format(", ".join(architectures)) for line, architectures in refused.items()]
    console.print(Text("\n".join(lines)), soft_wrap=True)


def published(overrides: Sequence[str], *, as_csv: bool) -> None:
    """Every published count beside ours."""
    from rich.text import Text

    from kasa_corda.paper.counts import compared

    if overrides:
        raise ConfigError(f"{overrides[0]}: --published has its own models and settings; leave it out")
    names = ("model", "method", "setting", "published", "ours", "explanation", "source")
    compared_rows = [[getattr(row, name) for name in names] for row in compared()]
    if as_csv:
        write_csv(names, compared_rows)
        return
    table, console = new_table(names[:-1])
    for *cells, _ in compared_rows:
        table.add_row(*(Text("-" if c is None else f"{c:,}" if isinstance(c, int) else c) for c in cells))
    console.print(table)


def new_table(columns: Sequence[str]) -> tuple[Any, Any]:
    from rich.box import ASCII, SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False, markup=False, emoji=False)
    unicode = (sys.stdout.encoding or "").lower().startswith("utf")
    table = Table(box=SIMPLE_HEAD if unicode else ASCII, pad_edge=False, padding=(0, 1), collapse_padding=True)
    for name in columns:
        right = name in ("parameters", "published", "ours")
        table.add_column(name, justify="right" if right else "left", no_wrap=right or name == "method", overflow="fold")
    return table, console


def write_csv(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    writer = csv.writer(sys.stdout)
    writer.writerow(columns)
    writer.writerows(rows)


if __name__ == "__main__":
    sys.exit(main())
