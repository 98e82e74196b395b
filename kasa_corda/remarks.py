"""What a reader of a result should know of how training went, and of predictions that can't be what was meant."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .config import TrainerConfig

if TYPE_CHECKING:
    from .evaluation.base import Evaluation
    from .fitted import FitProgress


def fit_notes(config: TrainerConfig, fitted: FitProgress) -> list[str]:
    """Steps that were left out, and micro-batches that had to be made smaller."""
    notes = []
    if fitted.skipped:
        notes.append(
            f"{fitted.skipped:,} of {fitted.step:,} optimizer steps were not applied: loss or gradient was NaN or"
            " infinite (nonfinite.jsonl names their examples)"
        )
    if fitted.overflows:
        notes.append(f"{fitted.overflows:,} of {fitted.step:,} optimizer steps overflowed fp16 and lowered its scale")
    before = config.accumulation
    for step, now in fitted.smaller:
        notes.append(f"trainer.accumulation={now} from step {step + 1} on: {before} did not fit into memory")
        before = now
    return notes


def collapsed(best: dict[str, Evaluation], last: dict[str, Evaluation]) -> list[str]:
    """A sentence for every test split on which all predictions are the same though the references are not."""
    notes = []
    for split, found in best.items():
        states = [name for name, each in (("best", found), ("last", last.get(split, found))) if all_equal(each)]
        if states:
            prediction = next(each for each in (found, last.get(split, found)) if all_equal(each)).rows[0]["prediction"]
            where = "" if split == "test" else f"{split}: "
            notes.append(
                f"{where}all {len(found.rows):,} predictions of the {' and the '.join(states)} state are the same"
                f" ({str(prediction)[:40]!r}): the model has collapsed"
            )
    return notes


def all_equal(found: Evaluation) -> bool:
    """Whether one prediction was given for every example, of which not all have the same reference."""
    rows = [row for row in found.rows if "prediction" in row and "reference" in row]
    if len(rows) < 2:
        return False
    return len({str(row["prediction"]) for row in rows}) == 1 and len({str(row["reference"]) for row in rows}) > 1
