"""``method.budget``: the rank or width that comes nearest to a number of trainable parameters."""

from __future__ import annotations

import contextlib
import json
from dataclasses import fields, replace

import pytest
from conftest import compose
from hypothesis import given, settings
from hypothesis import strategies as st

from kasa_corda.api import adapt
from kasa_corda.budget import choice_of, nearest_value, parsed, scaling_option, settle
from kasa_corda.config import RunConfig, run_id
from kasa_corda.config.run_id import VOLATILE
from kasa_corda.config.validate import validate
from kasa_corda.errors import ConfigError, Unfit
from kasa_corda.launch import prepare
from kasa_corda.methods import METHODS
from kasa_corda.methods.groups import members
from kasa_corda.paper.counts import configured
from kasa_corda.plan import counted
from kasa_corda.store import find_runs

MINILM = ("model=minilm", "task=reviews")


@pytest.fixture(scope="module")
def lora_on_minilm() -> RunConfig:
    return prepare(compose(*MINILM, "method=lora"))[0]


class Given:
    """Counts of an imagined method: one number per value it takes."""

    def __init__(self, table: dict[int, int]) -> None:
        self.table = table
        self.asked: set[int] = set()

    def __getitem__(self, value: int) -> int:
        self.asked.add(value)
        return self.table[value]

    def between(self, low: int, high: int, guess: int) -> int | None:
        inside = [value for value in self.table if low < value < high]
        return min(inside, key=lambda value: abs(value - guess), default=None)


def best(table: dict[int, int], budget: int) -> int:
    """By trying everything: the nearest count, the smallest value that has it, the smaller count of two."""
    return min(table, key=lambda value: (abs(table[value] - budget), value))


@given(
    steps=st.lists(st.integers(0, 50), min_size=1, max_size=60),
    start=st.integers(1, 200),
    budget=st.integers(1, 2000),
)
@settings(max_examples=200, deadline=None)
def test_the_choice_is_the_one_that_trying_everything_finds(steps, start, budget):
    table, total = {}, start
    for value, step in enumerate(steps, 1):
        total += step
        table[value] = total
    assert nearest_value(Given(table), 1, budget) == best(table, budget)


@pytest.mark.parametrize("budget", [5, 60, 700, 5000, 10**9])
def test_values_that_a_method_does_not_take_are_passed_over(budget):
    divisors = {value: value * (value - 1) // 2 * (768 // value) for value in (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)}
    assert nearest_value(Given(divisors), 2, budget) == best(divisors, budget)


def test_few_values_are_counted():
    linear, square = Given({r: 36864 * r for r in range(1, 769)}), Given({r: 24 * r * r for r in range(1, 769)})
    assert nearest_value(linear, 1, 5_000_000) == 136
    assert nearest_value(square, 1, 5_000_000) == 456
    assert len(linear.asked) <= 14
    assert len(square.asked) <= 20


@pytest.mark.parametrize(
    ("given", "number"),
    [(300000, 300000), ("0.3M", 300000), ("300k", 300000), ("1.5b", 1_500_000_000), (3e5, 300000), (None, None)],
)
def test_a_budget_is_written_as_a_number_or_with_a_unit(given, number):
    assert parsed(given) == number


@pytest.mark.parametrize("given", ["0", "-5", "lots", "3X", True, "", "M", [1]])
def test_anything_else_is_refused(given):
    with pytest.raises(ConfigError, match=r"method\.budget=.* must be a number of parameters above 0"):
        parsed(given)


@pytest.mark.parametrize("method", members("all"))
def test_no_method_that_scales_has_a_neighbour_that_comes_nearer(method, lora_on_minilm):
    def count(setting: str) -> tuple[RunConfig, int]:
        config = replace(lora_on_minilm, method=configured(method, setting))
        settle(config)
        validate(config)
        return config, counted(config, 100)[1]["adapter"]

    try:
        config, usual = count("")
    except Unfit as error:
        pytest.skip(str(error))
    option = scaling_option(config.method)
    if option is None:
        pytest.skip("nothing scales it")
    budget = round(1.3 * usual)
    chosen, number = count(f"method.budget={budget}")
    value = getattr(chosen.method, option)
    assert choice_of(chosen.method, number).value == value
    for neighbour in (value - 1, value + 1):
        with contextlib.suppress(ConfigError):
            assert abs(count(f"method.{option}={neighbour}")[1] - budget) >= abs(number - budget)


def test_what_scales_a_method_is_one_of_its_whole_number_options():
    for name, method in METHODS.items():
        if "scaled_by" in vars(method) and method.scaled_by is not None:
            types = {f.name: f.type for f in fields(method.Config)}
            assert types.get(method.scaled_by) in ("int", int), name


def test_the_run_is_that_of_the_chosen_rank():
    asked, given = (
        prepare(compose(*MINILM, "method=lora", option)) for option in ("method.budget=0.1M", "method.rank=11")
    )
    assert asked[0].method.rank == 11
    assert asked[0].method.budget == 100_000
    assert asked[1].run_id == given[1].run_id
    assert "budget" in VOLATILE["method"]
    other = prepare(compose(*MINILM, "method=lora", "method.budget=0.2M"))[1]
    assert other.run_id != asked[1].run_id
    assert run_id(compose(*MINILM, "method=lora")) == run_id(compose(*MINILM, "method=lora", "method.budget=5"))


@pytest.mark.parametrize("name", ["full", "probe"])
def test_a_method_without_width_refuses_a_budget(name):
    with pytest.raises(Unfit, match=f"nothing scales the parameters of method={name}"):
        prepare(compose(*MINILM, f"method={name}", "method.budget=1M"))


def test_a_budget_below_the_smallest_is_refused_with_that_number():
    with pytest.raises(Unfit, match=r"below the 9,216 parameters that method=lora trains at least .*\(rank 1\)"):
        prepare(compose(*MINILM, "method=lora", "method.budget=5000"))


def test_other_mistakes_are_named_as_without_a_budget():
    for wrong, said in (
        ("method.target_modules=querry", "did you mean query"),
        ("method.dropout=2.0", "method.dropout=2.0 must be below 1"),
        ("trainer.batch_size=0", "trainer.batch_size=0 must be at least 1"),
    ):
        with pytest.raises(ConfigError, match=said):
            prepare(compose(*MINILM, "method=lora", "method.budget=0.1M", wrong))


def test_a_python_call_has_no_budget():
    with pytest.raises(ConfigError, match="option of method lora=budget is unknown"):
        adapt(None, "lora", budget=5)


def test_a_run_a_dry_run_a_sweep_and_cfg_all_say_what_was_chosen(run_py):
    asked = ("method=lora", "method.budget=2k", "trainer.max_steps=1")
    said = "2,000 parameters asked for: rank 8 trains 2,048 without the head (+48, +2.40 %)"
    dry = run_py(*asked, "dry_run=true")
    assert said in dry.stdout, dry.stderr
    shown = run_py(*asked, "--cfg", "job")
    assert "\n  rank: 8\n" in shown.stdout and "\n  budget: 2k\n" in shown.stdout, shown.stderr
    swept = run_py("-m", "method=lora,full", *asked[1:])
    assert f"budget of lora on tiny-bert: {said}" in swept.stdout, swept.stderr
    assert "nothing scales the parameters of method=full" in swept.stdout
    (run,) = find_runs(run_py.folder / "runs")
    assert run.result()["budget"] == {"budget": 2000, "option": "rank", "value": 8, "count": 2048}
    stored = json.dumps(run.config()["method"])
    assert '"rank": 8' in stored and '"budget": 2000' in stored
