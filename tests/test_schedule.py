"""How many optimizer steps a run has."""

from __future__ import annotations

import pytest

from kasa_corda.config import TrainerConfig
from kasa_corda.training import total_steps, warmup_steps


def steps(examples: int, **options) -> int:
    return total_steps(TrainerConfig(learning_rate=1e-3, batch_size=32, epochs=3, **options), examples)


@pytest.mark.parametrize(
    ("examples", "options", "expected"),
    [
        (320, {}, 30),
        (321, {}, 33),
        (66_349, {"steps_cap": 800}, 800),
        (320, {"steps_cap": 800}, 30),
        (320, {"steps_cap": 800, "max_steps": 2000}, 2000),
        (1, {}, 3),
    ],
)
def test_a_cap_shortens_long_schedules_only_and_max_steps_wins(examples, options, expected):
    assert steps(examples, **options) == expected


@pytest.mark.parametrize(("warmup", "expected"), [(0.0, 0), (0.06, 6), (0.061, 7), (1, 1), (25, 25)])
def test_warmup_is_a_share_below_one_and_a_number_of_steps_from_one_on(warmup, expected):
    assert warmup_steps(TrainerConfig(learning_rate=1e-3, warmup=warmup), 100) == expected
