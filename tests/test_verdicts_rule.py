"""The statistics behind a verdict: estimate, interval, tests and power, and how often the rule is wrong."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import scipy.stats

from kasa_corda.verdicts.inference import Estimate, estimate, permutation
from kasa_corda.verdicts.power import power, seeds_needed
from kasa_corda.verdicts.rule import decide, of_all, wanted_effect
from kasa_corda.verdicts.simulation import DRAWS, PUBLISHED, SPREAD, states

FIVE = [0.012, 0.004, 0.021, 0.009, 0.013]


class TestEstimate:
    def test_one_task_is_the_paired_t_test(self) -> None:
        test = scipy.stats.ttest_1samp(FIVE, 0.002)
        found = estimate([FIVE])
        low, high = scipy.stats.ttest_1samp(FIVE, 0).confidence_interval(0.95)
        assert found.p(0.002) == pytest.approx(test.pvalue)
        assert found.interval() == (pytest.approx(low), pytest.approx(high))
        assert found.effect == pytest.approx(np.mean(FIVE) / np.std(FIVE, ddof=1))

    def test_several_tasks_pool_their_spread_within_tasks(self) -> None:
        rows = np.random.default_rng(1).normal(0, 1, (4, 5)) * [[1], [2], [1], [3]] + [[5], [-5], [0], [2]]
        rows -= rows.mean(axis=0) - rows.mean()  # equal per-seed means: the joint variance is zero
        found = estimate(rows.tolist())
        shares = rows.var(axis=1, ddof=1) / 5 / 16
        assert found.mean == pytest.approx(rows.mean())
        assert found.seed_variance == pytest.approx(shares.sum())
        assert found.degrees == pytest.approx(shares.sum() ** 2 / (shares**2 / 4).sum())

    def test_a_seed_that_is_lucky_on_all_tasks_is_not_counted_once_per_task(self) -> None:
        same = estimate([FIVE, FIVE, FIVE])
        assert same.seed_variance == pytest.approx(np.var(FIVE, ddof=1) / 5)

    @pytest.mark.parametrize("rows", [[[0.1]], [[0.1, 0.1, 0.1]], [[0.2, 0.2], [0.1, 0.1]], [[0.1, math.nan]]])
    def test_without_spread_there_is_no_interval(self, rows: list[list[float]]) -> None:
        found = estimate(rows)
        assert found.interval() is None and found.p() is None and decide(found, 0.0, None) == "undecidable"

    def test_examples_widen_the_interval_and_leave_the_seed_test_alone(self) -> None:
        alone, both = estimate([FIVE]), estimate([FIVE], example_variance=1e-4)
        assert both.p() == alone.p()
        assert both.interval()[0] < alone.interval()[0]  # type: ignore[index]
        assert both.p(examples=True) > both.p()  # type: ignore[operator]

    def test_uneven_tasks_are_an_error(self) -> None:
        with pytest.raises(ValueError, match="every task"):
            estimate([[1.0, 2.0], [1.0]])


class TestPermutation:
    def test_it_is_scipys_exact_sign_flip(self) -> None:
        values = [0.3, -0.1, 0.4, 0.2, 0.6]
        theirs = scipy.stats.permutation_test(
            (values,), lambda v, axis: v.mean(axis=axis), permutation_type="samples", vectorized=True
        )
        assert permutation([values]) == pytest.approx(theirs.pvalue)

    def test_five_seeds_can_not_go_below_a_sixteenth_but_two_tasks_can(self) -> None:
        assert permutation([FIVE]) == 2 / 2**5
        assert permutation([FIVE, FIVE]) == 2 / 2**10

    def test_many_are_drawn_the_same_way_every_time(self) -> None:
        rows = np.random.default_rng(0).normal(0.3, 1, (6, 5)).tolist()
        assert permutation(rows) == permutation(rows)
        assert permutation(rows) == pytest.approx(scipy.stats.ttest_1samp(np.ravel(rows), 0).pvalue, abs=0.02)


class TestPower:
    def test_ten_seeds_for_an_effect_of_one_standard_deviation(self) -> None:
        # n = 10 for a paired t-test, d = 1, two-sided 5 %, 80 % (Cohen's tables)
        found = Estimate(0.0, 5, 1, seed_variance=1 / 5, degrees=4, std=1.0)
        assert seeds_needed(found, 1.0) == 10
        assert power(found, 1.0, 9) < 0.8 <= power(found, 1.0, 10)

    def test_it_is_what_a_simulation_finds(self) -> None:
        found = Estimate(0.0, 5, 1, seed_variance=1 / 5, degrees=4, std=1.0)
        draws = np.random.default_rng(0).normal(0.8, 1, (20_000, 12))
        shown = scipy.stats.ttest_1samp(draws, 0, axis=1, alternative="greater").pvalue < 0.025
        assert power(found, 0.8, 12) == pytest.approx(shown.mean(), abs=0.01)

    def test_no_number_of_seeds_makes_up_for_few_examples(self) -> None:
        found = Estimate(0.004, 5, 1, seed_variance=1e-5, degrees=4, std=0.01, example_variance=1e-4)
        assert seeds_needed(found, 0.01) is None
        assert seeds_needed(replace(found, example_variance=0.0), 0.01) is not None

    def test_nothing_to_go_by(self) -> None:
        assert seeds_needed(estimate([[0.1]]), 0.1) is None
        assert seeds_needed(estimate([FIVE]), 0.0) is None


def verdict(mean: float, half: float, published: float | None = None, threshold: float = 0.0) -> str:
    """Of a difference with a 95 % interval of mean - half to mean + half over five seeds, uncorrected."""
    scale = half / scipy.stats.t.ppf(0.975, 4)
    found = Estimate(mean, 5, 1, seed_variance=scale**2, degrees=4, std=scale * 5**0.5)
    wanted = wanted_effect("above", threshold, published)
    return decide(found, threshold, found.p(threshold), wanted, None if wanted is None else found.p(wanted))


class TestRule:
    @pytest.mark.parametrize(
        ("mean", "half", "published", "state"),
        [
            (1.2, 0.6, 1.1, "reproduced"),
            (0.4, 0.3, 1.1, "reproduced"),  # smaller than printed, but above
            (-1.2, 0.6, 1.1, "not_reproduced"),
            (-1.2, 0.6, None, "not_reproduced"),
            (0.1, 0.4, 1.1, "not_reproduced"),  # half of 1.1 is excluded
            (0.1, 0.4, None, "undecidable"),
            (1.0, 1.2, 1.1, "direction"),
            (0.4, 1.2, 1.1, "undecidable"),
            (-0.4, 1.2, 1.1, "undecidable"),
            (0.1, 0.4, -0.5, "undecidable"),  # the paper's own numbers say the opposite: nothing to exclude
        ],
    )
    def test_states(self, mean: float, half: float, published: float | None, state: str) -> None:
        assert verdict(mean, half, published) == state

    def test_the_margin_must_be_excluded(self) -> None:
        assert verdict(1.2, 0.6, threshold=0.5) == "reproduced"
        assert verdict(1.2, 0.6, threshold=0.7) != "reproduced"
        assert verdict(0.1, 0.4, threshold=-0.5) == "reproduced"  # not worse by more than 0.5

    def test_a_corrected_p_value_can_withhold_it(self) -> None:
        found = estimate([FIVE])
        assert decide(found, 0.0, found.p()) == "reproduced"
        assert decide(found, 0.0, 0.06) == "direction"

    def test_few_examples_can_withhold_it(self) -> None:
        found = estimate([FIVE], example_variance=2e-4)
        assert found.p() < 0.05 and decide(found, 0.0, found.p()) == "undecidable"  # type: ignore[operator]

    @pytest.mark.parametrize(
        ("states_", "needed", "state"),
        [
            (["reproduced", "reproduced"], None, "reproduced"),
            (["reproduced", "direction"], None, "direction"),
            (["reproduced", "undecidable"], None, "undecidable"),
            (["reproduced", "missing"], None, "missing"),
            (["not_reproduced", "missing"], None, "not_reproduced"),
            (["reproduced"] * 4 + ["not_reproduced"], 4, "reproduced"),
            (["reproduced"] * 3 + ["not_reproduced"] * 2, 4, "not_reproduced"),
            (["reproduced"] * 3 + ["not_reproduced", "direction"], 4, "direction"),
            (["reproduced"] * 4 + ["missing"], 4, "reproduced"),
            ([], None, "missing"),
        ],
    )
    def test_a_claim_holds_if_its_parts_do(self, states_: list[str], needed: int | None, state: str) -> None:
        assert of_all(states_, needed) == state


RUNS = 1000
ERROR = 3 * math.sqrt(0.05 * 0.95 / RUNS)
"""of a rate of 5 %, three standard errors"""


class TestErrorRates:
    @pytest.mark.parametrize("name", DRAWS)
    @pytest.mark.parametrize(("tasks", "seeds"), [(1, 3), (1, 5), (6, 3), (6, 5)])
    def test_equal_methods_are_rarely_called_better(self, name: str, tasks: int, seeds: int) -> None:
        assert states(DRAWS[name], tasks, seeds, RUNS)["reproduced"] / RUNS <= 0.05 + ERROR

    @pytest.mark.parametrize(("tasks", "seeds"), [(1, 3), (6, 5)])
    def test_a_true_difference_is_rarely_called_refuted(self, tasks: int, seeds: int) -> None:
        assert states(DRAWS["normal"], tasks, seeds, RUNS, PUBLISHED)["not_reproduced"] / RUNS <= 0.05 + ERROR

    def test_five_seeds_can_decide(self) -> None:
        assert states(DRAWS["normal"], 6, 5, 300, PUBLISHED)["reproduced"] / 300 > 0.75
        assert states(DRAWS["normal"], 6, 5, 300, -PUBLISHED)["not_reproduced"] / 300 > 0.95

    def test_the_interval_covers_with_few_seeds(self) -> None:
        generator = np.random.default_rng(0)
        for tasks, seeds in ((1, 3), (1, 5), (5, 3)):
            draws = generator.normal(0.01, SPREAD, (800, tasks, seeds))
            intervals = [estimate(draw.tolist()).interval() for draw in draws]
            covered = np.mean([low <= 0.01 <= high for low, high in intervals])  # type: ignore[misc]
            assert covered >= 0.95 - 3 * math.sqrt(0.05 * 0.95 / 800)
