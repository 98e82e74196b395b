"""``python scripts/plan.py suite=paper --write docs/cost.md``: what each part of a suite costs, as a page."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from ..cost.machine import Machine, gib
from ..cost.observed import compared, read, spread
from ..cost.plan import Plan, hours, make_plan, megabytes
from ..cost.profile import MEASURED, Profile, slug
from ..store import write_atomically
from .planned import planned
from .suites import Suite, read_suite

HEAD = "| suite | what | runs | of these chosen on the way | GPU-hours | disk | downloads | peak memory | needed by |"


def write_table(path: Path, arguments: Sequence[str], machine: Machine, profile: Profile, jobs: int) -> None:
    """Plan every part of the suite among the arguments, and all of it, and write the page."""
    name = next(a for a in reversed(arguments) if a.startswith("suite=")).removeprefix("suite=")
    overrides = [argument for argument in arguments if not argument.startswith("suite=")]
    parts = [(part, planned([f"suite={part.name}", *overrides], machine, jobs=jobs, profile=profile))
             for part in leaves(name)]  # fmt: skip
    whole = together(name, [plan for _, plan in parts])
    write_atomically(path, page(name, parts, whole, arguments))


def leaves(name: str) -> list[Suite]:
    """The suites with lines of their own that a suite consists of, each once."""
    suite = read_suite(name)
    found = {leaf.name: leaf for other in suite.include for leaf in leaves(other)}
    if not suite.include or len(suite.lines) > sum(len(leaf.lines) for leaf in found.values()):
        found[suite.name] = suite
    return list(found.values())


def together(name: str, plans: Sequence[Plan]) -> Plan:
    """One plan of several: a run that two of them have is one run. Later runs are one where their config is."""
    runs = {
        str(run.directory.path) if run.directory else repr((run.config, run.times)): run
        for plan in plans
        for run in plan.runs
    }
    first = plans[0]
    impossible = list(dict.fromkeys(pair for plan in plans for pair in plan.impossible))
    return make_plan(name, list(runs.values()), impossible, first.machine, first.profile, jobs=first.jobs)


def page(name: str, parts: Sequence[tuple[Suite, Plan]], whole: Plan, arguments: Sequence[str]) -> str:
    """The Markdown of docs/cost.md."""
    profile = whole.profile
    lines = [
        f"# What suite={name} costs",
        "",
        f"Written by `python scripts/plan.py {shlex.join(arguments)} --device '{profile.device}' --write FILE`.",
        f"Estimated for {whole.machine.gpus} x {profile.device}, {whole.jobs} run(s) at a time on each, before",
        "anything was run. A run that several suites have is counted in each of their rows, and once in the last.",
        "Runs chosen on the way are the later stages of the learning-rate searches and the fresh seeds of the chosen",
        "rates; extensions of a search whose best rate lies at the edge of its window are not counted.",
        "",
        HEAD,
        "|---|---|---|---|---|---|---|---|---|",
        *(_row(suite.name, suite.about, plan) for suite, plan in parts),
        _row(f"**{name}**", "all of them, each run once", whole),
        "",
        "## Downloads",
        "",
        "| what | name | size | from | licence to accept |",
        "|---|---|---|---|---|",
        *(
            f"| {each.kind} | {each.name} | {megabytes(each.octets)} | {each.origin} | {'yes' if each.gated else ''} |"
            for each in whole.needed
        ),
        "",
        "## How good the estimate is",
        "",
        f"The figures of {profile.device} were fitted on {profile.fitted_on or 'nothing'}"
        f" (`benchmarks/results/cost/{slug(profile.device)}/`, by `python benchmarks/cost_fit.py`).",
        "",
        "| what | measured numbers | median error | worst error | worst where |",
        "|---|---|---|---|---|",
        *_errors(profile),
        "",
        "These are errors on the measurements that the figures were fitted to; `benchmarks/cost_fit.py` also predicts",
        "each group of them from the others, and `scripts/plan.py` shows the error on a suite's own finished runs.",
        *([f"Note: {profile.note}."] if profile.note else []),
        "",
        "Rehearsals of the papers' settings on random weights of the real shapes: `python benchmarks/rehearse.py` on a",
        "GPU; its measurements join the figures above. Lengths of tasks whose data were not at hand are assumed",
        "(`kasa_corda/cost/lengths.csv`, column source).",
    ]
    if whole.artefacts():
        lines += [
            "",
            f"Shared artefacts (subspaces, covariances, scores before training): {len(whole.artefacts())}, each",
        ]
        lines += [f"counted once, {hours(sum(whole.artefacts().values()))} in all."]
    return "\n".join(lines) + "\n"


def _row(name: str, about: str, plan: Plan) -> str:
    counts = plan.counts()
    size = sum(each.octets for each in plan.needed)
    gated = sum(each.gated for each in plan.needed)
    most = plan.largest
    peak = gib(most.estimate.bytes) if most and most.estimate else ""
    downloads = f"{gib(size)}" + (f", {gated} gated" if gated else "")
    cells = (
        name,
        about.rstrip("."),
        f"{sum(counts.values()):,}" + (f" ({len(plan.impossible)} impossible)" if plan.impossible else ""),
        f"{counts['later']:,}",
        f"{plan.gpu_hours:,.1f}" if plan.machine.gpus else hours(plan.wall),
        gib(plan.kept),
        downloads,
        peak,
        most.name if most else "",
    )
    return "| " + " | ".join(cells) + " |"


def _errors(profile: Profile) -> list[str]:
    found = [c for each in read(MEASURED / slug(profile.device)) for c in compared(each, profile)]
    rows = []
    for what in sorted({c.what for c in found}):
        chosen = [c for c in found if c.what == what]
        if summary := spread(chosen):
            middle, worst = summary
            rows.append(
                f"| {what} | {len(chosen)} | {100 * middle:.0f} % | {100 * worst.error:+.0f} % | {worst.name} |"
            )
    return rows
