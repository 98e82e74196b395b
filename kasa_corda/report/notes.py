"""What a reader must know before believing a table."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from .groups import Group, differing_keys, short_names, shown
from .improvement import improvement_notes
from .records import flatten

MOST = 30


def caption(selection: str, approximation: str | None, tuned: Sequence[str] = ()) -> str:
    """How to read the scores and the bold ones; ``tuned`` are the keys whose values were chosen per row."""
    parts = [
        "Scores x 100 (NIST, CIDEr, losses and perplexities as they are) on the evaluation set: mean ± sample standard"
        " deviation (number of seeds)."
    ]
    if selection == "held_out":
        parts.append("The best epoch was chosen on examples held out from training.")
    elif selection == "paper":
        parts.append(
            "Optimistic: the best epoch was chosen on the evaluation set itself, as the papers do; compare with the"
            " last epoch."
        )
    else:
        parts.append(f"The best epoch was chosen with selection={selection}.")
    if tuned:
        where = "examples held out from training" if selection == "held_out" else "the selection split"
        parts.append(f"Of every method the {' and '.join(tuned)} with the best mean over seeds on {where} is shown.")
    if approximation:
        parts.append(f"Approximate weights: {approximation.rstrip('.')}.")
    parts.append(
        "Bold: highest mean and better than every other row of its column beyond noise (paired t-tests over at least"
        " 3 common seeds, Holm-corrected, p < 0.05); no bold means that no method was shown to be the best."
    )
    return " ".join(parts)


CHOICE_CAPTION = (
    "Every setting that was tried, x 100 on the selection split: mean ± sample standard deviation (number of seeds)."
    " The highest mean among the settings that finished the most seeds was chosen; after a sweep with tuned_seeds that"
    " is the one that did best over the seeds of all. The evaluation set had no part in it, except with"
    " selection=paper, where it is the selection split."
)

FRONT_CAPTION = (
    "Rows that no other row beats in mean score and cost at once (the Pareto front). Means over few seeds: a row beside"
    " the front may be as good, as the comparisons show. Time depends on what else ran on the machine."
)

SAME_LAST = "Last epoch: the best epoch of every run was its last."

COMPARISON_CAPTION = (
    "Difference to the reference method in points (x 100) over common seeds, with its 95% t-interval and paired"
    " t-test; the example test asks the same over the examples of the evaluation set (exact McNemar on right or wrong,"
    " combined over seeds by twice the median p; otherwise a paired bootstrap of the per-example score averaged over"
    " seeds, which for answer_likelihood is the log-likelihood of the answer). Holm's correction runs over all"
    " comparisons of this table with the same reference. The verdict is the one over seeds at p < 0.05; 'not over"
    " examples' means that the evaluation set is too small to show the difference on other examples."
)


def table_notes(rows: Sequence[tuple[str, Mapping[str, Group]]], tuned: Collection[str] = ()) -> list[str]:
    """Settings that differ between the tasks of a row, mixed machines or code, and what runs themselves noted.

    ``tuned`` keys are chosen task by task, which a table of their own shows.
    """
    notes = improvement_notes(rows)
    for label, groups in rows:
        notes += _varying_settings(label, groups, tuned)
    finished = [(task, group) for _, groups in rows for task, group in groups.items() if group.finished]
    notes += _mixed([group for _, group in finished])
    notes += _uneven_seeds(finished)
    notes += _run_notes(finished)
    if len(notes) > MOST:
        notes = [*notes[:MOST], f"... and {len(notes) - MOST} more notes in the result files."]
    return notes


def _varying_settings(label: str, groups: Mapping[str, Group], tuned: Collection[str]) -> list[str]:
    keys = [key for key in differing_keys(groups.values()) if key not in tuned]
    ordinary = [k for k in keys if not k.startswith(("task.", "data.", "evaluator."))]
    if not ordinary:
        return []
    short = short_names(ordinary)
    parts = [
        f"{task}: " + ", ".join(f"{short[key]}={shown(group.settings.get(key))}" for key in ordinary)
        for task, group in groups.items()
    ]
    return [f"{label} was run with settings that differ by task ({'; '.join(parts)})."]


def _mixed(groups: Sequence[Group]) -> list[str]:
    """Runs that share every setting may still come from different machines or states of the code."""
    seen: dict[str, set[str]] = defaultdict(set)
    dirty = False
    for group in groups:
        for run in group.finished:
            origin = flatten({"p": run.result.get("provenance") or {}})
            for key, value in origin.items():
                if value is not None and (key in ("p.device", "p.git.sha", "p.git") or key.startswith("p.versions.")):
                    seen[key[2:]].add(str(value))
            dirty = dirty or bool(origin.get("p.git.dirty"))
    notes = []
    names = {"device": "devices", "git.sha": "commits", "git": "commits"}
    for key, values in sorted(seen.items()):
        if len(values) > 1:
            name = names.get(key, key.replace("versions.", "versions of "))
            notes.append(f"Runs of this table come from different {name}: {', '.join(sorted(values))}.")
    if dirty:
        notes.append("Some runs come from a checkout with uncommitted changes.")
    return notes


def _uneven_seeds(finished: Sequence[tuple[str, Group]]) -> list[str]:
    by_task: dict[str, set[tuple[int, ...]]] = defaultdict(set)
    for task, group in finished:
        by_task[task].add(tuple(group.seeds))
    uneven = sorted(task for task, seeds in by_task.items() if len(seeds) > 1)
    return [f"Not all rows have the same seeds on {', '.join(uneven)}."] if uneven else []


def _run_notes(finished: Sequence[tuple[str, Group]]) -> list[str]:
    noted: dict[str, set[str]] = defaultdict(set)
    for _, group in finished:
        for run in group.finished:
            data: Any = run.result.get("data")
            for source in (run.result, data if isinstance(data, dict) else {}):
                given = source.get("notes")
                for text in given if isinstance(given, list) else []:
                    noted[str(text)].add(str(run.config["task"]["name"]))
    return [f"{', '.join(sorted(tasks))}: {text}" for text, tasks in noted.items()]
