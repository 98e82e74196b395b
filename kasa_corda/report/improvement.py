"""Which methods did not do better than the untrained model (rows named base), in sentences below a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .groups import Group

UNTRAINED = "base"
"""label of the model as it was before training"""


def improvement_notes(rows: Sequence[tuple[str, Mapping[str, Group]]]) -> list[str]:
    """Sentences over all (label, task -> group) of a table; none where the untrained model was not evaluated."""
    measured = [
        (label, task, group, group.best.mean)
        for label, groups in rows
        for task, group in groups.items()
        if group.finished and group.best is not None
    ]
    untrained = {task: mean for _, task, group, mean in measured if group.first.label == UNTRAINED}
    trained = [one for one in measured if one[2].first.label != UNTRAINED and one[1] in untrained]
    worse: dict[str, list[str]] = {}
    for label, task, group, mean in trained:
        gain = mean - untrained[task]
        if not (gain if group.first.higher_is_better else -gain) > 0:
            worse.setdefault(task, []).append(f"{label} {100 * mean:.1f}")
    if trained and not worse:
        return ["Every method did better than the untrained model (base) on every task."]
    return [
        f"Not better than the untrained model on {task} (base {100 * untrained[task]:.1f}): {', '.join(found)}."
        for task, found in worse.items()
    ]
