"""The rule by which a learning rate is searched for: windows, stages, ties, failures; and alpha's rule."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kasa_corda.methods import METHODS
from kasa_corda.search import Decision, alpha_rule, decide, window
from kasa_corda.search.rates import WIDTH, beside, quarter
from kasa_corda.search.stages import FAILED, MOST_EXTENSIONS, REFINEMENTS, TRIALS, merit

START = (1e-5, 3.16e-5, 1e-4, 3.16e-4, 1e-3)


def searched(score: Callable[[float], float], start: tuple[float, ...] = START) -> tuple[Decision, dict[float, float]]:
    """The whole search of a score that is known everywhere, and everything that it tried."""
    merits: dict[float, float] = {}
    while (decision := decide(start, merits)).rates:
        assert not merits.keys() & set(decision.rates)
        merits |= {rate: score(rate) for rate in decision.rates}
    return decision, merits


def peak(at: float) -> Callable[[float], float]:
    return lambda rate: -abs(math.log10(rate / at))


def test_every_method_starts_with_the_same_number_of_half_decades():
    trained = [name for name, method in METHODS.items() if method.trains]
    for name in trained:
        rates = window(name)
        assert len(rates) == WIDTH == len(set(rates))
        steps = [math.log10(b / a) for a, b in pairwise(rates)]
        assert steps == pytest.approx([0.5] * (WIDTH - 1), abs=2e-3)


def test_windows_are_the_methods_own():
    assert window("lora") == window("kasa") == (3.16e-5, 1e-4, 3.16e-4, 1e-3, 3.16e-3)
    assert window("pissa") == window("corda_ipa") == window("full") == START
    assert window("prompt_tuning") == (3.16e-3, 1e-2, 3.16e-2, 1e-1, 3.16e-1)


def test_published_rates_lie_inside_the_windows():
    for method, rates in {"kasa": (3e-4, 5e-4), "lora": (3e-4, 5e-4), "corda_kpa": (2e-5,), "pissa": (2e-5,)}.items():
        assert all(window(method)[0] < rate < window(method)[-1] for rate in rates)


def test_rates_have_three_digits_and_quarter_steps_come_back():
    assert [quarter(k) for k in range(-16, -11)] == [1e-4, 1.78e-4, 3.16e-4, 5.62e-4, 1e-3]
    for k in range(-24, 1):
        assert beside(quarter(k), 3) == quarter(k + 3) and beside(beside(quarter(k), 2), -2) == quarter(k)


def test_the_window_comes_first_then_a_quarter_decade_on_either_side_of_the_best():
    assert decide(START, {}).rates == START
    half = {rate: peak(1.2e-4)(rate) for rate in START}
    assert decide(START, half) == Decision(rates=(5.62e-5, 1.78e-4))
    decision, tried = searched(peak(1.7e-4))
    assert decision == Decision(chosen=1.78e-4) and len(tried) == TRIALS == WIDTH + REFINEMENTS


def test_a_best_at_the_edge_extends_the_window_on_that_side_until_it_is_inside():
    decision, tried = searched(peak(3e-3))
    assert decision == Decision(chosen=3.16e-3, extended=2) and max(tried) == 1e-2 and len(tried) == TRIALS + 2
    down, tried = searched(peak(3e-6))
    assert down == Decision(chosen=3.16e-6, extended=2) and min(tried) == 1e-6


def test_extensions_end_and_the_edge_is_flagged():
    decision, tried = searched(lambda rate: rate)
    assert decision.extended == MOST_EXTENSIONS and decision.at_edge and decision.chosen == max(tried)
    assert len(tried) == TRIALS + MOST_EXTENSIONS


def test_of_equal_rates_the_smaller_is_chosen():
    decision, _ = searched(lambda rate: 0.5 if 2e-5 < rate < 5e-4 else 0.0)
    assert decision.chosen == 3.16e-5


def test_failed_rates_are_worst_and_never_chosen():
    decision, _ = searched(lambda rate: FAILED if rate > 1.5e-4 else rate)
    assert decision.chosen == 1e-4
    assert searched(lambda rate: FAILED)[0] == Decision(extended=MOST_EXTENSIONS)
    only_small, _ = searched(lambda rate: FAILED if rate > 4e-6 else -rate)
    assert only_small.chosen == 1.78e-7 and only_small.at_edge


def test_one_failed_or_nan_seed_spoils_a_rate():
    assert merit([0.5, 0.7]) == pytest.approx(0.6) and merit([0.5, 0.7], higher_is_better=False) == pytest.approx(-0.6)
    assert merit([0.9, None]) == merit([math.nan, 0.9]) == merit([]) == FAILED


@settings(max_examples=60, deadline=None)
@given(st.floats(-7, 0), st.sampled_from(["lora", "full", "prompt_tuning", "olora"]))
def test_wherever_the_peak_is_the_search_ends_next_to_it_or_says_that_it_lies_outside(position, method):
    at = 10**position
    decision, tried = searched(peak(at), window(method))
    assert decision.chosen in tried and len(tried) == TRIALS + decision.extended
    near = abs(math.log10(decision.chosen / at)) <= 0.126
    assert near or decision.at_edge


@pytest.mark.parametrize(
    ("method", "text", "scale"),
    [
        ({"name": "lora", "rank": 8, "alpha": 16.0}, "fixed 16", 2.0),
        ({"name": "lora", "rank": 16, "alpha": 16.0}, "alpha = r", 1.0),
        ({"name": "milora", "rank": 32, "alpha": None}, "alpha = r", 1.0),
        ({"name": "rslora", "rank": 16, "alpha": 16.0}, "alpha = r", 4.0),
        ({"name": "lora_ga", "rank": 4, "alpha": 16.0, "rslora": True}, "fixed 16", 8.0),
        ({"name": "kasa", "rank": 4, "alpha": 16.0, "variant": "paper", "scaling": "rslora"}, "fixed 16", 8.0),
        ({"name": "kasa", "rank": 8, "alpha": 16.0, "variant": "paper", "scaling": None}, "fixed 16", 2.0),
        ({"name": "corda_kpa", "rank": 128, "alpha": 16.0, "variant": "paper", "scaling": None}, "alpha = r", 1.0),
        ({"name": "corda_ipa", "rank": 32, "alpha": 16.0, "variant": "peft", "scaling": None}, "fixed 16", 0.5),
        ({"name": "adalora", "rank": 8, "alpha": 24.0, "init_rank": None}, "fixed 24", 2.0),
        ({"name": "full"}, None, None),
        ({"name": "trilora", "rank": 8}, None, None),
    ],
    ids=lambda value: value["name"] if isinstance(value, dict) else "",
)
def test_alphas_rule_is_told_with_the_factor_that_it_comes_to(method, text, scale):
    rule = alpha_rule(method)
    assert (rule.text, rule.scale) == (text, scale)
