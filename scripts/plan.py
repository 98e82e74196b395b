"""What a suite would cost before anything of it runs: runs by state, GPU-hours, disk, downloads, peak memory.

python scripts/plan.py suite=pocket data_dir=FOLDER
python scripts/plan.py suite=paper --gpus 8 --device "NVIDIA H100 80GB HBM3"   # for another machine
python scripts/plan.py --calibrate             # a minute of timed steps on this machine, kept in the cache folder
python scripts/plan.py suite=paper --write docs/cost.md
python scripts/plan.py suite=pocket --confirm      # exit code 1 unless the machine can do it and you say yes
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path


def main(argv: list[str] | None = None) -> int:
    """0 done, 1 the machine can't do it or it was not confirmed (--confirm), 2 wrong request."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", help="suite=NAME and overrides, as for run.py")
    parser.add_argument("--calibrate", action="store_true", help="measure this machine first (about a minute)")
    parser.add_argument("--device", help="plan for this device (a name in kasa_corda/cost/profiles.json)")
    parser.add_argument("--gpus", type=int, help="plan for so many GPUs; default: those of this machine")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time on each GPU")
    parser.add_argument("--no-hub", action="store_true", help="do not ask whether the hub answers")
    parser.add_argument("--confirm", action="store_true", help="ask before going on; CONFIRM=yes answers")
    parser.add_argument("--write", type=Path, help="write the cost table of the suite's parts as Markdown")
    chosen = parser.parse_intermixed_args(argv)
    if chosen.jobs < 1 or (chosen.gpus is not None and chosen.gpus < 0):
        parser.error("--jobs must be at least 1 and --gpus at least 0")

    from kasa_corda.cli import exit_code

    return exit_code(lambda: work(chosen), chosen.overrides)


def work(chosen: argparse.Namespace) -> int:
    from kasa_corda.cli.planned import gate, plan_text, planned
    from kasa_corda.cost.machine import this_machine
    from kasa_corda.cost.profile import profile_for

    if chosen.calibrate:
        from kasa_corda.cost.calibrate import calibrated

        profile, path = calibrated()
        print(f"measured {profile.device}: {profile.fitted_on} -> {path}")
        if not chosen.overrides:
            return 0
    root = next((o.partition("=")[2] for o in chosen.overrides if o.startswith("run_root=")), "runs")
    machine = this_machine(Path(root), ask_hub=not chosen.no_hub)
    profile = profile_for(chosen.device)
    if chosen.device:
        gpus = 1 if profile.kind == "gpu" else 0
        machine = replace(machine, device=chosen.device, gpus=gpus, device_bytes=profile.memory)
    if chosen.gpus is not None:
        memory = machine.device_bytes or profile.memory
        machine = replace(machine, gpus=chosen.gpus, device_bytes=memory if chosen.gpus else 0)
    if chosen.write:
        from kasa_corda.cli.cost_table import write_table

        write_table(chosen.write, chosen.overrides, machine, profile, chosen.jobs)
        print(f"wrote {chosen.write}")
        return 0
    plan = planned(chosen.overrides, machine, jobs=chosen.jobs, profile=profile)
    print(plan_text(plan))
    if chosen.confirm:
        others = [o for o in chosen.overrides if not o.startswith(("suite=", "protocol="))]
        return gate(plan, others)
    if lacks := plan.lacks():
        print("\nthis machine can't do it; it would need " + "; ".join(lacks))
    return 0


if __name__ == "__main__":
    sys.exit(main())
