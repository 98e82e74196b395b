"""The two sides of a comparison on one task: which runs they are, and whether they were run alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..report.groups import shown
from .runs import RATE, Index, Setting, trained, value

if TYPE_CHECKING:
    from ..paper.claims import Part, Selector
    from ..report.records import RunRecord

OWN = ("method.", "calibration.")
"""groups in which methods may differ"""
IGNORED = (
    RATE, "trainer.head_learning_rate", "trainer.accumulation", "trainer.gradient_checkpointing", "trainer.compile",
    "evaluator.batch_size", "evaluator.test", "evaluator.forgetting", "model.dtype", "model.attention",
)  # fmt: skip
"""keys that belong to the learning rate or to how the same numbers are computed"""


@dataclass(frozen=True)
class Missing:
    """What there is no result of, and why."""

    what: str
    task: str
    why: str


@dataclass(frozen=True)
class Sides:
    """Paired runs of one task, by seed. ``reference`` is None for a claim about one value."""

    task: str
    ours: dict[int, RunRecord]
    reference: dict[int, RunRecord] | None
    notes: tuple[str, ...]
    trained: bool
    """False where neither side trains anything: then no seed changes the result"""


def sides(part: Part, task: str, index: Index) -> Sides | list[Missing]:
    """The runs of one task, or what is missing."""
    found = [_candidates(part, one, task, index) for one in (part.ours, part.reference) if one is not None]
    named = {key for one in (part.ours, part.reference) if one is not None for key in one.where}
    if missing := [one for one in found if isinstance(one, Missing)]:
        return missing
    lists = [one for one in found if not isinstance(one, Missing)]
    if part.reference is None:
        ours = most_seeds(lists[0])
        notes = [*ours.notes, *several(part.ours.name, task, lists[0], ours)]
        return Sides(task, ours.runs, None, tuple(notes), ours.trains)
    pairs = [(one, other) for one in lists[0] for other in lists[1]]
    ours, reference = min(pairs, key=lambda pair: _rank(pair[0], pair[1], named))
    left, right = _paired(ours, reference)
    if not left:
        seeds = " and ".join(", ".join(map(str, sorted(side.runs))) for side in (ours, reference))
        return [Missing(f"{part.ours.name} and {part.reference.name}", task, f"no seed in common: {seeds}")]
    notes = [*ours.notes, *reference.notes]
    notes += several(part.ours.name, task, lists[0], ours) + several(part.reference.name, task, lists[1], reference)
    if unlike := _unlike(ours, reference, named):
        pairs_shown = (f"{k} {shown(ours.settings.get(k))} | {shown(reference.settings.get(k))}" for k in unlike)
        notes.append(f"{part.ours.name} and {part.reference.name} differ on {task} in: {', '.join(pairs_shown)}")
    return Sides(task, left, right, tuple(notes), ours.trains or reference.trains)


def _candidates(part: Part, selector: Selector, task: str, index: Index) -> list[Setting] | Missing:
    where = {**part.where, **selector.where}
    rate = part.learning_rate(selector, task)
    every = index.find(part.model, task, where, rate)
    usable = [s for s in every if any(value(run, part.metric) is not None for run in s.runs.values())]
    if usable:
        return usable
    if any(setting.runs for setting in every):
        return Missing(selector.name, task, f"has no {part.metric}")
    states: dict[str, int] = {}
    for setting in every:
        for state, count in setting.states.items():
            states[state] = states.get(state, 0) + count
    if states:
        return Missing(selector.name, task, ", ".join(f"{count} {state}" for state, count in sorted(states.items())))
    if every and index.lr == "tuned":
        why = dict.fromkeys(note.partition(": ")[2] for setting in every for note in setting.notes)
        return Missing(selector.name, task, f"{'; '.join(why) or 'search not finished'}; no fresh seeds")
    trains = trained(str(selector.where.get("method")))
    at = f" at learning rate {rate:g}" if index.lr == "paper" and rate is not None and trains else ""
    return Missing(selector.name, task, f"no run{at}")


def told(missing: Sequence[Missing], model: str) -> list[str]:
    """'LoRA on glue/cola, glue/rte with minilm (no run)': a sentence for what is missing for the same reason."""
    tasks: dict[tuple[str, str], list[str]] = {}
    for one in missing:
        tasks.setdefault((one.what, one.why), []).append(one.task)
    return [f"{what} on {', '.join(names)} with {model} ({why})" for (what, why), names in tasks.items()]


def _rank(ours: Setting, reference: Setting, named: set[str]) -> tuple[bool, int, int, int, str]:
    """Alike first, then most seeds in common, then most seeds."""
    common = len(_paired(ours, reference)[0])
    alike = len(_unlike(ours, reference, named))
    paths = f"{ours.first.path} {reference.first.path}"
    return (not common, alike, -common, -len(ours.runs) - len(reference.runs), paths)


def most_seeds(settings: Sequence[Setting]) -> Setting:
    """The same one on every machine, whatever the order."""
    return max(settings, key=lambda s: (len(s.runs), str(s.first.path)))


def _paired(ours: Setting, reference: Setting) -> tuple[dict[int, RunRecord], dict[int, RunRecord]]:
    """Runs of the same seed. What trains nothing is the same for every seed."""
    left, right = ours.runs, reference.runs
    if not reference.trains and right and not left.keys() & right.keys():
        right = dict.fromkeys(left, right[min(right)])
    if not reference.trains and ours.trains and right:
        right = {seed: right.get(seed, right[min(right)]) for seed in left}
    if not ours.trains and left and (reference.trains or not left.keys() & right.keys()):
        left = {seed: left.get(seed, left[min(left)]) for seed in right}
    common = sorted(left.keys() & right.keys())
    return {seed: left[seed] for seed in common}, {seed: right[seed] for seed in common}


def _unlike(ours: Setting, reference: Setting, named: set[str]) -> list[str]:
    """Settings that both sides have and that differ, though no condition of the claim names them."""
    trained = ours.trains and reference.trains
    return [
        key
        for key, one in ours.settings.items()
        if key in reference.settings
        and key not in named
        and key not in IGNORED
        and not key.startswith(OWN if trained else (*OWN, "trainer.", "data."))
        and repr(one) != repr(reference.settings[key])
    ]


def several(name: str, task: str, settings: Sequence[Setting], taken: Setting) -> list[str]:
    """A note where more than one setting met the conditions, with the keys that tell them apart."""
    if len(settings) < 2:
        return []
    missing = object()
    keys = dict.fromkeys(key for s in settings for key in s.settings)
    differing = [key for key in keys if len({repr(s.settings.get(key, missing)) for s in settings}) > 1]
    values = ", ".join(f"{key}={shown(taken.settings.get(key))}" for key in differing[:6])
    more = f" and {len(differing) - 6} more keys" if len(differing) > 6 else ""
    return [f"{len(settings)} settings of {name} fit on {task}; taken: {values}{more} ({len(taken.runs)} seeds)"]
