"""The cost model's figures from finished runs: import their measurements, fit, print the errors.

python benchmarks/cost_fit.py --runs RUNS --name glue_minilm    # store measurements of finished runs
python benchmarks/cost_fit.py --device "NVIDIA H100 80GB HBM3" [--write]         # fit, show errors, store the figures
"""

from __future__ import annotations

import argparse
import json
import shlex
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from kasa_corda.cli.compose import composed
from kasa_corda.cost.fitting import fitted, left_out
from kasa_corda.cost.observed import Observation, as_json, compared, concurrency, read, spread
from kasa_corda.cost.profile import MEASURED, STORED, read_profiles, slug
from kasa_corda.store import find_runs


def imported(runs: Path, name: str) -> list[Observation]:
    """The finished runs of a folder, each setting once: the median over its seeds."""
    results = [run.result() for run in find_runs(runs) if run.state() == "finished"]
    every = [result for result in results if result is not None]
    beside = concurrency(every)
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for result in every:
        groups[settings_of(result)].append(result)
    found = []
    for overrides, results in groups.items():
        seconds = {key: median(r["seconds"][key] for r in results) for key in ("fit", "evaluate")}
        seconds["prepare"] = median(r["seconds"]["prepare"] + r["seconds"]["adapt"] for r in results)
        device = [r["peak_memory_bytes"]["device"] for r in results]
        first = results[0]
        found.append(
            Observation(
                name=f"{name}: {first['task']} {first['model']} {first['label']}",
                device=first["provenance"]["device"],
                config=asdict(composed(shlex.split(overrides))),
                seconds=seconds,
                concurrent=max(1, round(median(beside[r["run_id"]] for r in results))),
                device_bytes=None if device[0] is None else int(median(device)),
                host_bytes=int(median(r["peak_memory_bytes"]["host"] for r in results)),
                about=f"median of {len(results)} runs, {first['provenance']['date'][:10]},"
                f" torch {first['provenance']['versions'].get('torch')}",
            )
        )
    return found


def settings_of(result: dict[str, Any]) -> str:
    """The overrides of a run without what costs nothing: seed, learning rate, folders."""
    words = shlex.split(result["provenance"]["command"])
    free = ("seed", "trainer.learning_rate", "method.learning_rate", "run_root", "data_dir")
    kept = [word for word in words if "=" in word and word.split("=")[0] not in free and not word.startswith("hydra")]
    return shlex.join(kept)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path)
    parser.add_argument("--name", default="runs")
    parser.add_argument("--device", default="NVIDIA H100 80GB HBM3")
    parser.add_argument("--write", action="store_true")
    chosen = parser.parse_args()
    if chosen.runs:
        found = imported(chosen.runs, chosen.name)
        folder = MEASURED / slug(found[0].device)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{chosen.name}.json").write_text(as_json(found), encoding="utf-8")
        print(f"{len(found)} settings -> {folder / chosen.name}.json")
        return
    profiles = read_profiles()
    base, observations = profiles[chosen.device], read(MEASURED / slug(chosen.device))
    profile = fitted(base, observations)
    print(json.dumps(asdict(profile), indent=1))
    within = [c for each in observations for c in compared(each, profile)]
    outside = [c for each, other in left_out(base, observations) for c in compared(each, other)]
    for c in within:
        print(
            f"  {c.name:60} {c.what:14} measured {c.measured:12.4g}"
            f" predicted {c.predicted:12.4g} {100 * c.error:+6.0f} %"
        )
    for label, found in (("fitted on them", within), ("each group predicted from the others", outside)):
        for what in sorted({c.what for c in found}):
            middle, worst = spread([c for c in found if c.what == what])  # type: ignore[misc]
            print(f"{label}: {what}: median {100 * middle:.0f} %, worst {100 * worst.error:+.0f} % ({worst.name})")
    if chosen.write:
        rows = [asdict(profile if p.device == profile.device else p) for p in profiles.values()]
        STORED.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
