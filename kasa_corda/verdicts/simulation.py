"""How often the rule is wrong, and how often it decides: ``python -m kasa_corda.verdicts.simulation [RUNS]``.

Differences per seed and task are drawn from several distributions; nothing is trained. One part, no family to correct
for, no predictions: the rule at its most lenient.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

from .inference import estimate
from .rule import decide, wanted_effect
from .verdict import STATES

if TYPE_CHECKING:
    import numpy as np

PUBLISHED = 0.011
"""the published difference that is looked for, 1.1 points"""
SPREAD = 0.012
"""standard deviation of one run's score on one task"""
Draw = Callable[["np.random.Generator", tuple[int, ...]], "np.ndarray"]


def normal(generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return generator.normal(0, SPREAD, shape)


def collapsing(generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """One run in eight falls to the level of a constant answer, as small GLUE tasks do."""
    return normal(generator, shape) - 0.15 * (generator.random(shape) < 0.125)


def counted(generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Right answers of 277, half of the noise from them: many ties."""
    return generator.binomial(277, 0.65 + generator.normal(0, 0.008, shape)) / 277


def uneven(generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """One task is five times as noisy as the others."""
    scales = [5.0] + [1.0] * (shape[0] - 1)
    return normal(generator, shape) * [[scale] for scale in scales]


def lucky(generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """A third of the variance is the seed's, the same on all tasks."""
    own, shared = normal(generator, shape), normal(generator, (1, shape[1]))
    return (2 / 3) ** 0.5 * own + (1 / 3) ** 0.5 * shared


DRAWS: dict[str, Draw] = {draw.__name__: draw for draw in (normal, collapsing, counted, uneven, lucky)}


def states(draw: Draw, tasks: int, seeds: int, runs: int, effect: float = 0.0, seed: int = 0) -> Counter[str]:
    """How often each state is given where the true difference is ``effect`` on every task."""
    import numpy as np

    generator = np.random.default_rng(seed)
    found: Counter[str] = Counter()
    wanted = wanted_effect("above", 0.0, PUBLISHED)
    for _ in range(runs):
        sides = draw(generator, (tasks, seeds)), draw(generator, (tasks, seeds))
        one = estimate((sides[0] + effect - sides[1]).tolist())
        p_wanted = None if wanted is None else one.p(wanted)
        found[decide(one, 0.0, one.p(0.0), wanted, p_wanted)] += 1
    return found


def coverage(seeds: int, examples: int, runs: int) -> dict[str, float]:
    """How often three 95 % intervals hold the true difference (none): of seeds and examples, of seeds alone, and the
    plain two-level bootstrap. With ``examples`` every example has a difference of its own, the same for all seeds."""
    import numpy as np

    from .examples import RESAMPLES, Resampled, of_seeds, percentiles, sums_of_draws

    generator = np.random.default_rng(0)
    hits: Counter[str] = Counter()
    for _ in range(runs):
        row = generator.normal(0, SPREAD, seeds)
        drawn = Resampled(0, np.tile(row, (RESAMPLES, 1)))
        if examples:
            own = generator.normal(0, 0.25, examples)[:, None] + generator.normal(0, 0.3, (examples, seeds)) + row
            sums = sums_of_draws(np.concatenate([own, np.ones((examples, 1))], axis=1))
            drawn, row = Resampled(examples, sums[:, :seeds] / sums[:, seeds:]), own.mean(axis=0)
        rows = [row.tolist()]
        intervals = {
            "seeds and examples": estimate(rows, drawn.variance if examples else 0.0).interval(),
            "seeds": estimate(rows).interval(),
            "plain bootstrap": percentiles([drawn], rows) if examples else of_seeds(rows),
        }
        hits.update(name for name, one in intervals.items() if one is not None and one[0] <= 0 <= one[1])
    return {name: hits[name] / runs for name in ("seeds and examples", "seeds", "plain bootstrap")}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m kasa_corda.verdicts.simulation", description=__doc__.splitlines()[0]
    )
    parser.add_argument("runs", nargs="?", type=int, default=4000, help="simulated comparisons per line")
    chosen = parser.parse_args(arguments)
    shown = STATES[:4]
    print("true difference | draws | tasks | seeds | " + " | ".join(shown))
    for effect in (0.0, PUBLISHED, -PUBLISHED):
        for name, draw in DRAWS.items():
            for tasks in (1, 6):
                for seeds in (3, 5, 10):
                    counts = states(draw, tasks, seeds, chosen.runs, effect)
                    rates = " | ".join(f"{counts[state] / chosen.runs:.3f}" for state in shown)
                    print(f"{100 * effect:+.1f} | {name} | {tasks} | {seeds} | {rates}")
    print("\nseeds | examples | coverage of the 95 % intervals")
    for seeds in (3, 5, 10):
        for examples in (0, 300):
            covered = coverage(seeds, examples, max(1, chosen.runs // 5))
            print(f"{seeds} | {examples or '-'} | {', '.join(f'{name} {rate:.3f}' for name, rate in covered.items())}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
