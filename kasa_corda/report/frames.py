"""The same data as tidy frames, for CSV files and notebooks. Scores are fractions in full precision."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from ..search import alpha_rule
from ..search.families import RATE
from .records import RunRecord
from .statistics import Summary
from .tables import Table

if TYPE_CHECKING:
    import pandas as pd


def runs_frame(records: Iterable[RunRecord]) -> pd.DataFrame:
    """One row per run, unfinished ones included. Scores are fractions."""
    import pandas as pd

    rows = [
        {
            "run_id": r.run_id,
            "state": r.state,
            "error": r.error,
            "task": r.task,
            "model": r.model,
            "method": r.method,
            "label": r.label,
            "variant": r.variant,
            "seed": r.seed,
            "selection": r.selection,
            "scale": r.scale,
            "approximation": r.approximation,
            "learning_rate": r.settings.get(RATE),
            "alpha_rule": alpha_rule(_method(r)).text,
            "alpha_scale": alpha_rule(_method(r)).scale,
            "tested": r.tested,
            "metric": r.metric,
            "score": r.score,
            "last_score": r.last_score,
            "select_metric": r.select_metric,
            "select_score": r.select_score,
            "best_step": r.best.step if r.best else None,
            "best_epoch": r.best.epoch if r.best else None,
            "trainable": r.number("parameters", "trainable"),
            "adapter": r.number("parameters", "adapter"),
            "total": r.number("parameters", "total"),
            "seconds": r.number("seconds", "total"),
            "fit_seconds": r.number("seconds", "fit"),
            "host_memory_bytes": r.number("peak_memory_bytes", "host"),
            "device_memory_bytes": r.number("peak_memory_bytes", "device"),
            "examples_per_second": r.number("throughput", "examples_per_second"),
            "tokens_per_second": r.number("throughput", "tokens_per_second"),
            "path": str(r.path),
        }
        for r in records
    ]
    table = pd.DataFrame(rows)
    for name in ("seed", "best_step", "trainable", "adapter", "total", "host_memory_bytes", "device_memory_bytes"):
        if name in table:
            table[name] = pd.to_numeric(table[name], errors="coerce").round().astype("Int64")
    return table


def summary_frame(tables: Sequence[Table]) -> pd.DataFrame:
    """One row per table, method row and task: statistics over seeds, costs, and runs that did not finish."""
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for table in tables:
        for row in table.rows:
            for task, group in sorted(row.groups.items()):
                first = group.first
                rows.append(
                    {
                        "model": table.model,
                        "approximation": table.approximation,
                        "scale": table.scale,
                        "selection": table.selection,
                        "task": task,
                        "metric": first.metric,
                        "row": row.label,
                        "method": row.method,
                        "label": first.label,
                        "variant": first.variant,
                        "n": group.n,
                        **_statistics("best", group.best),
                        **_statistics("last", group.last),
                        "best_beyond_noise": task in row.best_on,
                        "trainable": group.mean("parameters", "trainable"),
                        "seconds": group.mean("seconds", "total"),
                        "host_memory_bytes": group.peak("peak_memory_bytes", "host"),
                        "device_memory_bytes": group.peak("peak_memory_bytes", "device"),
                        "examples_per_second": group.mean("throughput", "examples_per_second"),
                        "seeds": " ".join(map(str, group.seeds)),
                        "unfinished": ", ".join(f"{count} {state}" for state, count in group.states().items()),
                    }
                )
    return pd.DataFrame(rows)


def comparison_frame(tables: Sequence[Table]) -> pd.DataFrame:
    """One row per paired comparison."""
    import pandas as pd

    return pd.DataFrame(
        {
            "model": table.model,
            "scale": table.scale,
            "selection": table.selection,
            "task": c.task,
            "metric": c.group.first.metric,
            "row": c.label,
            "reference": c.reference_label,
            "common_seeds": c.difference.n,
            "difference": c.difference.mean,
            "ci_low": c.difference.low,
            "ci_high": c.difference.high,
            "p": c.difference.p,
            "p_holm": c.p_holm,
            "example_test": c.examples.name if c.examples else None,
            "examples": c.examples.examples if c.examples else None,
            "examples_p": c.examples.p if c.examples else None,
            "examples_p_holm": c.examples_holm,
            "verdict": c.verdict,
            "remark": c.remark,
        }
        for table in tables
        for c in table.comparisons
    )


def long_frame(records: Iterable[RunRecord]) -> pd.DataFrame:
    """Tidy: one row per run, moment (best, last), split (select, test) and metric."""
    import pandas as pd

    return pd.DataFrame(
        {
            "run_id": r.run_id,
            "task": r.task,
            "model": r.model,
            "method": r.method,
            "label": r.label,
            "variant": r.variant,
            "selection": r.selection,
            "scale": r.scale,
            "seed": r.seed,
            "moment": moment,
            "step": outcome.step,
            "epoch": outcome.epoch,
            "split": split,
            "metric": metric,
            "value": value,
        }
        for r in records
        if r.state == "finished"
        for moment, outcome in (("best", r.best), ("last", r.last))
        if outcome is not None
        for split, scores in (("select", outcome.select), ("test", outcome.test))
        for metric, value in scores.items()
    )


def _method(record: RunRecord) -> dict[str, Any]:
    method = record.config.get("method")
    return method if isinstance(method, dict) else {}


def _statistics(name: str, summary: Summary | None) -> dict[str, float | None]:
    if summary is None:
        return dict.fromkeys([f"{name}_{part}" for part in ("mean", "std", "ci_low", "ci_high")])
    return {
        f"{name}_mean": summary.mean,
        f"{name}_std": summary.std,
        f"{name}_ci_low": summary.low,
        f"{name}_ci_high": summary.high,
    }
