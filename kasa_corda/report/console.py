"""Tables on screen: after a run, after a sweep, and of a report. Plain text where the output is not a terminal."""

from __future__ import annotations

import math
import re
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from rich.box import ASCII, SIMPLE_HEAD, Box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from . import format

if TYPE_CHECKING:
    import pandas as pd

STATE_STYLES = {"finished": "green", "failed": "red", "impossible": "red", "damaged": "red", "interrupted": "yellow"}
WIDTH_WITHOUT_TERMINAL = 80


def print_run(result: dict[str, Any], path: str | Path, console: Console | None = None) -> None:
    """The table that ends a run, and where its result is (``path``: the run directory or its result.json)."""
    console = console or make_console()
    metric, best, last = result["metric"], result["best"], result["last"]
    name = f"{result['label']}{_variant(result)} on {result['task']}, {result['model']}, seed {result['seed']}"
    console.print(_text(name, console), style="bold")
    table = _new_table(console)
    table.add_column("metric x 100", overflow="fold")
    for title in (f"best ({_moment(best)})", f"last ({_moment(last)})", "select, best"):
        table.add_column(title, justify="right")
    for key in sorted(best["test"] or best["select"], key=lambda k: k != metric):
        scores = [part.get(key) for part in (best["test"], last["test"], best.get("select") or {})]
        table.add_row(_text(key, console), *(_text(_score(key, s), console) for s in scores))
    _show(console, table)
    console.print(_text("; ".join(_costs(result)), console))
    if not best["test"]:
        console.print("not evaluated on the test set (evaluator.test=false)")
    elif result.get("selection") == "paper":
        console.print("the best epoch was chosen on the evaluation set: an optimistic score")
    if approximation := (result.get("model_source") or {}).get("approximation"):
        console.print(_text(f"approximate weights: {approximation}", console))
    file = Path(path)
    _line(console, str(file if file.name == "result.json" else file / "result.json"))


def print_sweep(cells: Sequence[dict[str, Any]], console: Console | None = None) -> None:
    """One table with the state of every cell of a sweep, then the errors, then the counts."""
    console = console or make_console()
    table = _new_table(console)
    told = [key for key in ("label", "learning_rate") if len({cell.get(key) for cell in cells}) > 1]
    for name in ("task", "model", "method", *told):
        table.add_column(name.replace("_", " "), overflow="fold")
    table.add_column("seed", justify="right", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("score", justify="right", no_wrap=True)
    for cell in cells:
        state = str(cell.get("state"))
        names = [_text(cell.get(key), console) for key in ("task", "model", "method", *told, "seed")]
        shown = Text(_clean(state), style=STATE_STYLES.get(state, ""))
        table.add_row(*names, shown, format.percent(_number(cell.get("score")), metric=str(cell.get("metric"))))
    _show(console, table)
    for cell in cells:
        if cell.get("error") and cell.get("state") != "finished":
            name = " ".join(str(cell.get(key)) for key in ("task", "model", "method"))
            name += "".join(f" {key}={cell[key]}" for key in told if cell.get(key) is not None)
            where = f" ({cell['run_dir']})" if cell.get("run_dir") else ""
            _line(console, f"{cell.get('state')}: {name} seed={cell.get('seed')}: {cell['error']}{where}")
    states = Counter(str(cell.get("state")) for cell in cells)
    done = states.pop("finished", 0)
    counts = "".join(f", {count} {state}" for state, count in sorted(states.items()))
    _line(console, f"{done} of {len(cells)} cells finished{counts}")


def print_scores(results: Sequence[dict[str, Any]], console: Console | None = None) -> None:
    """Every score of evaluated models with its standard error and number of examples."""
    console = console or make_console()
    table = _new_table(console)
    for name in ("task", "model", "metric"):
        table.add_column(name, overflow="fold")
    for name in ("x 100", "± standard error", "examples"):
        table.add_column(name, justify="right", no_wrap=True)
    for result in results:
        scores, errors = result["best"]["test"], result["best"].get("test_errors", {})
        counts = result["data"]["counts"]
        for metric in sorted(scores, key=lambda name: name != result["metric"]):
            owner = next((name for name in counts if metric.startswith(f"{name}_")), "test")
            cells = (_score(metric, scores[metric]), format.percent(_number(errors.get(metric)), metric=metric))
            table.add_row(
                *(_text(value, console) for value in (result["task"], result["model"], metric)),
                *(_text(value, console) for value in (*cells, f"{counts.get(owner, 0):,}")),
            )
    _show(console, table)


def print_summary(df: pd.DataFrame, console: Console | None = None) -> None:
    """A summary frame (``report.summary_frame``): one table per model, scale and selection, a line per task and row."""
    console = console or make_console()
    if df.empty:
        console.print("no runs")
        return
    for (model, scale, selection, approximation), part in df.groupby(
        ["model", "scale", "selection", df["approximation"].fillna("")], sort=False
    ):
        optimistic = " (optimistic: best epoch chosen on the evaluation set)" if selection == "paper" else ""
        approximate = " (approximate weights)" if approximation else ""
        title = f"{model}{approximate}, {scale} scale, selection={selection}{optimistic}"
        console.print(_text(title, console), style="bold")
        table = _new_table(console)
        table.add_column("method", overflow="fold")
        for name in ("best", "last", "n", "params", "time", "GiB"):
            table.add_column(name, justify="right", no_wrap=True)
        for (task, metric), rows in part.groupby(["task", "metric"]):
            table.add_row(_text(format.heading(task, metric), console))
            for row in rows.to_dict("records"):
                table.add_row(*_summary_cells(row, console))
        _show(console, table)
    if (df["unfinished"].astype(bool) & (df["n"] > 0)).any():
        console.print("! more runs of this row have no result")


def make_console(file: TextIO | None = None) -> Console:
    """A console that writes colours only to a terminal and 80 columns elsewhere."""
    stream = file or sys.stdout
    terminal = bool(getattr(stream, "isatty", lambda: False)())
    width = None if terminal else WIDTH_WITHOUT_TERMINAL
    return Console(file=stream, force_terminal=terminal, width=width, highlight=False, emoji=False, markup=False)


def _new_table(console: Console) -> Table:
    box: Box = SIMPLE_HEAD if _can_encode("─╶", console) else ASCII
    return Table(box=box, pad_edge=False, padding=(0, 1), collapse_padding=True)


def _show(console: Console, table: Table) -> None:
    """The table, without padding at the ends of lines where the output is a file."""
    if console.is_terminal:
        console.print(table)
        return
    with console.capture() as captured:
        console.print(table)
    lines = [line.rstrip() for line in captured.get().splitlines()]
    console.print(Text("\n".join(lines).strip("\n") + "\n"), soft_wrap=True)


def _line(console: Console, text: str) -> None:
    """Text that is never broken over lines, so that paths can be copied."""
    console.print(_text(text, console), soft_wrap=True)


def _text(value: Any, console: Console) -> Text:
    return Text(_fit("-" if value is None else str(value), console))


def _fit(text: str, console: Console) -> str:
    """Without control characters, and in what the output can encode."""
    text = _clean(text)
    return text if _can_encode(text, console) else text.replace("±", "+-").encode("ascii", "replace").decode()


def _clean(text: str) -> str:
    text = re.sub(r"\x1b\[[0-9;?]*[ -/]*[@-~]", "", text)
    return re.sub(r"[\x00-\x1f\x7f-\x9f]+", " ", text)


def _can_encode(text: str, console: Console) -> bool:
    try:
        text.encode(console.encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _number(value: Any) -> float | None:
    """A float, or None for anything that is no number (pandas' NaN and NA count as missing)."""
    try:
        return None if value is None or math.isnan(number := float(value)) else number
    except (TypeError, ValueError):
        return None


def _score(metric: str, value: Any) -> str:
    """A score as tables show it; why there is none, where it is NaN."""
    absent = isinstance(value, float) and math.isnan(value)
    return format.missing(metric) if absent else format.percent(_number(value), metric=metric)


def _summary_cells(row: dict[str, Any], console: Console) -> list[Text]:
    best = _mean_std(row, "best")
    device, host = _number(row["device_memory_bytes"]), _number(row["host_memory_bytes"])
    peak = host if device is None else device
    cells = [
        "  " + str(row["row"]),
        best or row["unfinished"] or format.NOTHING,
        _mean_std(row, "last") or format.NOTHING,
        str(row["n"]) + ("!" if best and row["unfinished"] else ""),
        format.count(_number(row["trainable"])),
        format.seconds(_number(row["seconds"])),
        format.NOTHING if peak is None else f"{peak / 2**30:.1f}",
    ]
    texts = [_text(cell, console) for cell in cells]
    texts[1].stylize("bold" if row["best_beyond_noise"] else "")
    return texts


def _mean_std(row: dict[str, Any], which: str) -> str | None:
    mean, std = _number(row[f"{which}_mean"]), _number(row[f"{which}_std"])
    if mean is None:
        return format.missing(str(row["metric"])) if row["n"] else None
    metric, digits = str(row["metric"]), format.decimals(mean)
    shown = [format.percent(v, decimals=digits, metric=metric) for v in (mean, std) if v is not None]
    return " ± ".join(shown)


def _variant(result: dict[str, Any]) -> str:
    return f" ({result['variant']})" if result.get("variant") else ""


def _moment(outcome: dict[str, Any]) -> str:
    epoch = _number(outcome.get("epoch"))
    return f"step {outcome.get('step')}" if epoch is None else f"epoch {epoch:.3g}"


def _costs(result: dict[str, Any]) -> list[str]:
    """'294.9 K of 22.7 M parameters trained', '95.1 s', ..."""
    parameters, peak = result.get("parameters") or {}, result.get("peak_memory_bytes") or {}
    trainable, total = _number(parameters.get("trainable")), _number(parameters.get("total"))
    seconds = _number((result.get("seconds") or {}).get("total"))
    device, host = _number(peak.get("device")), _number(peak.get("host"))
    speed = _number((result.get("throughput") or {}).get("examples_per_second"))
    parts = [f"{format.count(trainable)} of {format.count(total)} parameters trained"]
    if seconds is not None:
        parts.append(format.seconds(seconds))
    if speed is not None:
        parts.append(f"{format.plain_number(speed)} examples/s")
    if device is not None:
        parts.append(f"peak memory {format.memory(device)} GPU")
    elif host is not None:
        parts.append(f"peak memory {format.memory(host)} host")
    return parts
