"""The cost of a suite: its runs by state, GPU-hours, disk, downloads, memory, and how good earlier predictions were."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ..config import RunConfig
from ..store import RunDirectory
from .downloads import HUB, Download, downloads
from .estimate import Estimate, estimate
from .machine import Machine, gib
from .observed import Comparison, concurrency, spread
from .profile import Profile, profile_for

HOURS_WITHOUT_GPU = 24.0
"""a suite that takes a processor longer than this needs a GPU"""
RESERVED = 0.95
"""share of a device's memory that runs can have; the rest is the context's"""


@dataclass
class PlannedRun:
    """One distinct run of a suite, or ``times`` equal ones that a later stage will choose."""

    config: RunConfig
    directory: RunDirectory | None
    state: str
    """new, finished, failed (an earlier attempt), later"""
    times: int = 1
    estimate: Estimate | None = None

    @property
    def name(self) -> str:
        return " ".join((self.config.task.name, self.config.model.name, self.config.method.name))


@dataclass
class Plan:
    """A suite on a machine."""

    suite: str
    runs: list[PlannedRun]
    impossible: list[tuple[str, str]]
    """overrides of a cell -> why it can't be run"""
    machine: Machine
    profile: Profile
    jobs: int = 1
    """runs at a time on each GPU"""
    claims: int = 0
    needed: list[Download] = field(default_factory=list)
    errors: list[Comparison] = field(default_factory=list)
    """finished runs: predicted against measured"""

    def counts(self) -> Counter[str]:
        found: Counter[str] = Counter()
        for run in self.runs:
            found[run.state] += run.times
        return found

    @property
    def ahead(self) -> list[PlannedRun]:
        """Runs that are still to be made."""
        return [run for run in self.runs if run.state != "finished"]

    @property
    def seconds(self) -> float:
        """Of all runs ahead, each alone on the device; what they share is counted once."""
        return sum(self._parts(lambda e: e.seconds - sum(e.shared.values()))) + sum(self.artefacts().values())

    @property
    def busy(self) -> float:
        """Seconds of the device in them."""
        shared = sum(self.artefacts().values())
        return sum(self._parts(lambda e: max(0.0, e.busy - sum(e.shared.values())))) + shared

    def artefacts(self) -> dict[str, float]:
        """What several runs share -> its seconds, once; nothing for what a finished run has left in the cache."""
        ready = {key for run in self.runs if run.state == "finished" and run.estimate for key in run.estimate.shared}
        found: dict[str, float] = {}
        for run in self.ahead:
            for key, seconds in (run.estimate.shared if run.estimate else {}).items():
                if key not in ready:
                    found[key] = max(seconds, found.get(key, 0.0))
        return found

    @property
    def wall(self) -> float:
        """Seconds until the end: runs that share a GPU take what the host needs, or the device if that is more."""
        devices = max(1, self.machine.gpus)
        return max(self.seconds / self.jobs, self.busy) / devices

    @property
    def gpu_hours(self) -> float:
        return self.wall * max(1, self.machine.gpus) / 3600 if self.machine.gpus else 0.0

    @property
    def kept(self) -> int:
        """Bytes that the runs leave."""
        return int(sum(self._parts(lambda e: e.disk_bytes)))

    @property
    def disk(self) -> int:
        """Bytes that must be free: what runs leave, checkpoints of those that go on together, downloads."""
        scratch = max((run.estimate.scratch_bytes for run in self.ahead if run.estimate), default=0)
        return self.kept + scratch * self.jobs * max(1, self.machine.gpus) + sum(each.octets for each in self.needed)

    @property
    def largest(self) -> PlannedRun | None:
        """The run that needs most memory of the device."""
        return max(self.ahead, key=lambda run: run.estimate.bytes if run.estimate else 0, default=None)

    def too_large(self) -> list[PlannedRun]:
        """Runs that need more memory than there is, as many as go on together."""
        room = self.machine.memory * RESERVED / self.jobs
        return [run for run in self.ahead if run.estimate and run.estimate.least_bytes > room]

    def lacks(self) -> list[str]:
        """What the machine would need, in sentences; empty if it can do the suite."""
        found = []
        if not self.machine.gpus and self.wall > HOURS_WITHOUT_GPU * 3600:
            found.append(
                f"a GPU: without one this takes about {hours(self.wall)} on {self.machine.device}"
                f" (at most {HOURS_WITHOUT_GPU:.0f} h are accepted)"
            )
        if large := self.too_large():
            most = max(large, key=lambda run: run.estimate.least_bytes if run.estimate else 0)
            assert most.estimate is not None
            where = "GPU memory" if self.machine.gpus else "memory"
            found.append(
                f"{gib(most.estimate.least_bytes * self.jobs / RESERVED)} of {where}: {most.name} needs"
                f" {gib(most.estimate.least_bytes)}{f' ({self.jobs} at a time)' if self.jobs > 1 else ''} and there is"
                f" {gib(self.machine.memory)}; {sum(run.times for run in large):,} runs are too large"
            )
        if self.disk > self.machine.disk_bytes:
            found.append(f"{gib(self.disk)} of free disk: there is {gib(self.machine.disk_bytes)}")
        hub = [each for each in self.needed if each.origin == HUB]
        if hub and self.machine.hub is False:
            names = ", ".join(each.name for each in hub[:4]) + (f" and {len(hub) - 4} more" if len(hub) > 4 else "")
            found.append(
                f"the Hugging Face hub, which does not answer, for {names}; or the files themselves: data_dir=FOLDER,"
                " model.path=DIR"
            )
        if not self.runs:
            found.append("a suite with at least one possible cell")
        return found

    def _parts(self, of: Any) -> Iterable[float]:
        return (of(run.estimate) * run.times for run in self.ahead if run.estimate)


def make_plan(
    suite: str,
    runs: list[PlannedRun],
    impossible: list[tuple[str, str]],
    machine: Machine,
    profile: Profile,
    *,
    jobs: int = 1,
    claims: int = 0,
) -> Plan:
    """Estimate every run; equal work (another seed or learning rate) once."""
    known: dict[str, Estimate] = {}
    for run in runs:
        key = work_key(run.config)
        if key not in known:
            known[key] = estimate(run.config, profile)
        run.estimate = known[key]
    plan = Plan(suite, runs, impossible, machine, profile, jobs, claims)
    plan.needed = downloads(run.config for run in plan.ahead)
    plan.errors = error_report(runs)
    return plan


def work_key(config: RunConfig) -> str:
    """What an estimate depends on."""
    plain = asdict(config)
    plain["trainer"].pop("learning_rate")
    free = ("seed", "run_root", "data_dir", "dry_run", "force", "resume")
    return json.dumps({k: v for k, v in plain.items() if k not in free}, sort_keys=True, default=str)


def error_report(runs: Sequence[PlannedRun]) -> list[Comparison]:
    """Finished runs: measured seconds and peak memory beside what is predicted for the device they ran on.

    Seconds are those of the phases fit and evaluate, for as many runs as went on together at that time.
    """
    done = []
    for run in runs:
        if run.state == "finished" and run.directory is not None and (result := run.directory.result()):
            done.append((run, result))
    beside = concurrency([result for _, result in done])
    found: list[Comparison] = []
    for run, result in done:
        device = str(result["provenance"].get("device"))
        profile = profile_for(device)
        together = max(1, round(beside[result["run_id"]]))
        predicted = estimate(run.config, profile, concurrent=together if profile.kind == "gpu" else 1)
        measured = sum(result["seconds"].get(phase, 0.0) for phase in ("fit", "evaluate"))
        expected = sum(predicted.by_phase[phase] for phase in ("fit", "evaluate"))
        name = f"{run.name} {result['run_id']}"
        if measured > 0:
            found.append(Comparison(name, "seconds", measured, expected))
        peak = result["peak_memory_bytes"]
        if profile.kind == "gpu" and peak.get("device"):
            found.append(Comparison(name, "memory", peak["device"], predicted.device_bytes))
        elif profile.kind == "cpu" and peak.get("host"):
            found.append(Comparison(name, "memory", peak["host"], predicted.host_bytes))
    return found


def plan_text(plan: Plan) -> str:
    """What a person reads before they say yes."""
    count = plan.counts()
    total = sum(count.values())
    lines = [f"plan of suite={plan.suite} on {plan.machine.text()}", ""]
    later = f", {count['later']:,} that later stages choose" if count["later"] else ""
    lines.append(
        f"runs        {total:,}: {count['new']:,} new, {count['finished']:,} finished earlier,"
        f" {count['failed']:,} failed earlier (tried again){later}; {len(plan.impossible):,} cells impossible"
    )
    lines += [f"            impossible: {name}: {why}" for name, why in plan.impossible[:3]]
    if len(plan.impossible) > 3:
        lines.append(f"            ... and {len(plan.impossible) - 3:,} more")
    lines += _time(plan)
    lines.append(f"disk        {gib(plan.disk)} ({gib(plan.kept)} stay in the run folder)")
    lines += _downloads(plan)
    lines += _memory(plan)
    lines += _model(plan)
    return "\n".join(lines)


def _time(plan: Plan) -> list[str]:
    if not plan.ahead:
        return ["time        nothing to run"]
    shared = plan.artefacts()
    once = f"; {len(shared)} shared artefacts counted once ({hours(sum(shared.values()))})" if shared else ""
    if plan.machine.gpus:
        each = f", {plan.jobs} runs at a time on each" if plan.jobs > 1 else ""
        return [
            f"time        {plan.gpu_hours:,.1f} GPU-hours, {hours(plan.wall)} on {plan.machine.gpus} GPU(s){each}{once}"
        ]
    return [f"time        {hours(plan.wall)} on this processor (no GPU){once}"]


def _downloads(plan: Plan) -> list[str]:
    if not plan.needed:
        return ["downloads   none: all models and data are here"]
    size = sum(each.octets for each in plan.needed)
    gated = [each.name for each in plan.needed if each.gated]
    kinds = Counter(each.kind for each in plan.needed)
    lines = [f"downloads   {gib(size)}: {kinds['model']} models, {kinds['data']} data sets"]
    for each in plan.needed[:12]:
        note = ", licence to be accepted on its page first" if each.gated else ""
        lines.append(f"            {each.kind} {each.name}: {megabytes(each.octets)} from the {each.origin}{note}")
    if len(plan.needed) > 12:
        lines.append(f"            ... and {len(plan.needed) - 12} more")
    if gated:
        lines.append(f"            licence clicks: {', '.join(gated)}")
    return lines


def _memory(plan: Plan) -> list[str]:
    most = plan.largest
    if most is None or most.estimate is None:
        return []
    where = "GPU memory" if plan.machine.gpus else "memory"
    lines = [
        f"memory      at most {gib(most.estimate.bytes)} per run ({most.name}), {where} here {gib(plan.machine.memory)}"
    ]
    if large := plan.too_large():
        lines.append(f"            {sum(run.times for run in large):,} runs do not fit")
    return lines


def _model(plan: Plan) -> list[str]:
    fitted = plan.profile.fitted_on or "nothing but a guess"
    lines = [f"estimate    figures of {plan.profile.device}, fitted on {fitted}"]
    if plan.profile.note:
        lines.append(f"            {plan.profile.note}")
    for what in ("seconds", "memory"):
        if summary := spread([c for c in plan.errors if c.what == what]):
            middle, worst = summary
            number = sum(c.what == what for c in plan.errors)
            lines.append(
                f"            {what} of {number} finished runs: median error {100 * middle:.0f} %, worst"
                f" {100 * worst.error:+.0f} % ({worst.name}: predicted {_shown(worst, worst.predicted)}, measured"
                f" {_shown(worst, worst.measured)})"
            )
    if not plan.errors:
        lines.append("            no finished run to compare with yet")
    return lines


def _shown(comparison: Comparison, value: float) -> str:
    return gib(value) if comparison.what == "memory" else f"{value:,.0f} s"


def hours(seconds: float) -> str:
    """4000 s -> 1.1 h, 90 s -> 1.5 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:,.1f} min" if seconds < 5400 else f"{seconds / 3600:,.1f} h"


def megabytes(octets: int) -> str:
    return gib(octets) if octets >= 2**30 else f"{octets / 10**6:,.0f} MB"
