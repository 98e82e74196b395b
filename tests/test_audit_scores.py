"""The audit of published numbers: which scores are possible at all."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kasa_corda.audit import EvaluationSet, audit, read_sets
from kasa_corda.audit.matrices import matrix_exists, nearest_values
from kasa_corda.audit.printed import printed
from kasa_corda.audit.reading import kind_of, read
from kasa_corda.audit.shares import counts_between, possible, ranges, runs_that_fit
from kasa_corda.audit.spreads import attainable
from kasa_corda.evaluation.metrics import accuracy, f1, matthews
from kasa_corda.paper.published import Cell

SMALL = EvaluationSet("small", 12, ("accuracy", "f1", "matthews"), 5, 7)


def cell(value: str, task: str = "glue/qnli", metric: str = "accuracy", **others) -> Cell:
    words = {"paper": "x", "table": "t", "model": "m", "method": "a", "parameters": None, "std": "", "source": ""}
    return Cell(**(words | {"task": task, "metric": metric, "value": value} | others))


def severe(*cells: Cell) -> list:
    return [finding for finding in audit(cells) if finding.severity != "notice"]


@pytest.mark.parametrize(
    ("value", "task", "neighbour"),
    [
        ("0.9330750503386418", "glue/qnli", "0.9300750503386418 = 5081/5463"),
        ("0.968743119266055", "glue/sst2", "0.966743119266055 = 843/872"),
    ],
)
def test_a_logged_score_that_is_no_count_is_impossible_and_its_neighbour_named(value, task, neighbour):
    (finding,) = severe(cell(value, task, setting="single run"))
    assert finding.severity == "impossible"
    assert neighbour in finding.sentence


@pytest.mark.parametrize(("value", "task"), [("0.933075", "qnli"), ("0.968743", "SST-2"), ("93.3075", "glue/qnli")])
def test_six_decimals_are_enough_to_see_it(value, task):
    # a second score over 1 makes the last one's table one of percentages
    other = [] if value.startswith("0") else [cell("50.00", "glue/rte", metric="other")]
    (finding,) = severe(cell(value, task, setting="seeds=1"), *other)
    assert finding.severity == "impossible"


@pytest.mark.parametrize(
    ("value", "task", "metric"),
    [
        ("14.99", "harness/nq_open", "harness_match"),  # 541 of 3610
        ("5.86", "webqs", "exact match %"),  # 119 of 2032
        ("88.48", "MRPC", "accuracy"),
        ("0.9300750503386418", "glue/qnli", "accuracy"),
        ("100", "glue/qnli", "accuracy"),
        ("0.00", "gsm8k", "exact_match"),
    ],
)
def test_a_count_is_possible(value, task, metric):
    assert severe(cell(value, task, metric, setting="single run")) == []


def test_code_scores_that_average_samples_are_seen_although_their_run_is_one():
    found = severe(
        cell("19.48", "humaneval", "pass@1", setting="single run", method="pissa"),
        cell("25.42", "humaneval", "pass@1", setting="single run", method="full"),
        cell("25.64", "mbpp", "pass@1", setting="single run", method="full"),
        cell("25.60", "mbpp", "pass@1", setting="single run", method="lora"),
    )
    assert [f.severity for f in found] == ["unstated"] * 4
    assert sum(f.check == "accuracy = k/n" for f in found) == 3  # 25.60 is 128 of 500
    together = next(f for f in found if f.check == "same number of runs")
    assert "m = 19, 20" in together.sentence and len(together.cells) == 2


def test_a_code_score_of_stated_samples_is_judged_by_them():
    assert severe(cell("21.03", "humaneval", "pass@1", setting="n_samples=2")) == []
    (finding,) = severe(cell("21.03", "humaneval", "pass@1", setting="n_samples=3"))
    assert finding.severity == "impossible"


def test_runs_are_read_from_words():
    words = ["single run", "mean of 5 runs", "three seeds", "seeds=4", "32 samples of PTB", ""]
    cells = [cell("50.0", setting=text) for text in words]
    assert [reading.runs for reading in read(cells, read_sets())] == [1, 5, 3, 4, None, None]


@pytest.mark.parametrize(
    ("text", "kind"),
    [("Matthews corr x100", "matthews"), ("exact_match", "exact_match"), ("macro F1", "macro"), ("pass@10", "")],
)
def test_metrics_are_read_from_words(text, kind):
    assert kind_of(text) == kind


@pytest.mark.parametrize("text", ["12.345", "0.5", "-3.70", "0.00", "1e-3", "7"])
def test_a_printed_number_holds_what_rounds_or_is_cut_to_it(text):
    number = printed(text, 100)
    step = Fraction(1, 10 ** len(text.partition(".")[2])) if "e" not in text else Fraction(1, 1000)
    value = Fraction(text)
    away = 1 if value >= 0 else -1
    assert number.holds((value - away * step / 2) / 100)
    assert number.holds((value + away * step * Fraction(999, 1000)) / 100)
    if value:
        assert not number.holds((value + away * step * Fraction(101, 100)) / 100)
        assert not number.holds((value - away * step * Fraction(51, 100)) / 100)


@given(st.integers(1, 6000), st.data())
@settings(max_examples=60, deadline=None)
def test_every_count_of_every_size_is_possible_in_every_print(size, data):
    count = data.draw(st.integers(0, size))
    decimals = data.draw(st.integers(0, 8))
    assert count in counts_between(printed(f"{100 * count / size:.{decimals}f}", 100), size)
    assert count in counts_between(printed(repr(count / size)), size)
    single = float(np.float32(count) / np.float32(size))
    assert possible(printed(repr(single)), size)


def test_means_of_runs_are_on_a_finer_grid():
    third = printed("33.47", 100)  # of 100 examples: 100.41 / 300
    assert not possible(third, 100)
    assert 3 not in runs_that_fit([third], 100) and 15 in runs_that_fit([third], 100)
    assert ranges([1, 2, 3, 5, 7, 8]) == "1 to 3, 5, 7, 8"


def _all_scores() -> list[tuple[float, float, float]]:
    found = []
    for true, false in itertools.product(range(8), range(6)):
        predictions = [1] * true + [0] * (7 - true) + [1] * false + [0] * (5 - false)
        references = [1] * 7 + [0] * 5
        found.append(tuple(metric(predictions, references) for metric in (accuracy, f1, matthews)))
    return found


def test_every_confusion_matrix_is_found_by_the_projects_own_metrics():
    for scores in _all_scores():
        known = dict(zip(("accuracy", "f1", "matthews"), (printed(repr(s)) for s in scores), strict=True))
        assert matrix_exists(SMALL, known)
        for name, number in known.items():
            assert matrix_exists(SMALL, {name: number})


def test_scores_of_no_matrix_are_found_by_going_through_all():
    every = _all_scores()
    generator = np.random.default_rng(0)
    for _ in range(300):
        a, f, m = (printed(f"{x:.3f}") for x in (generator.uniform(), generator.uniform(), generator.uniform(-1, 1)))
        for pair in ({"accuracy": a, "f1": f}, {"f1": f, "matthews": m}, {"matthews": m}, {"f1": f}):
            places = {"accuracy": 0, "f1": 1, "matthews": 2}
            by_hand = any(all(n.holds(Fraction(s[places[k]])) for k, n in pair.items()) for s in every)
            assert matrix_exists(SMALL, pair) == by_hand, pair


def test_the_nearest_possible_coefficients_are_neighbours():
    values = sorted({scores[2] for scores in _all_scores()})
    below, above = nearest_values(SMALL, "matthews", 0.4321)
    assert below == pytest.approx(max(v for v in values if v <= 0.4321))
    assert above == pytest.approx(min(v for v in values if v >= 0.4321))


def test_accuracy_and_f1_of_one_model_must_agree():
    right = [cell("90.69", "mrpc", setting="single run"), cell("93.31", "mrpc", "f1", setting="single run")]
    assert severe(*right) == []
    (finding,) = severe(right[0], cell("92.31", "mrpc", "f1", setting="single run"))
    assert finding.severity == "impossible" and len(finding.cells) == 2
    (finding,) = audit(
        [cell(c.value, "mrpc", c.metric, setting="single run; best") for c in (right[0], finding.cells[1])]
    )
    assert finding.severity == "notice" and "another epoch" in finding.sentence


def test_a_matthews_coefficient_needs_a_matrix():
    assert severe(cell("0.658181", "cola", "matthews", setting="single run")) == []
    (finding,) = severe(cell("0.0000301", "rte", "matthews", setting="single run"))
    assert finding.severity == "impossible" and "nearest" in finding.sentence


@given(st.integers(5, 400), st.integers(2, 6), st.data())
@settings(max_examples=60, deadline=None)
def test_mean_and_std_of_any_runs_are_attainable(size, runs, data):
    counts = np.array(data.draw(st.lists(st.integers(0, size), min_size=runs, max_size=runs)))
    decimals = data.draw(st.integers(0, 5))
    shares = 100 * counts / size
    for ddof in (0, 1):
        mean, std = (printed(f"{x:.{decimals}f}", 100) for x in (shares.mean(), shares.std(ddof=ddof)))
        assert attainable(mean, std, size, runs)


def test_a_std_that_no_counts_have_is_impossible():
    # of 100 examples two runs with mean 50 are 50 - d and 50 + d: deviations of whole points, or those times sqrt 2
    assert attainable(printed("50.00", 100), printed("3.00", 100), 100, 2)
    assert not attainable(printed("50.00", 100), printed("3.30", 100), 100, 2)
    found = severe(cell("50.00", "set", std="3.30", setting="2 seeds"))
    assert found == []  # nothing is known of that set
    (finding,) = audit([cell("50.00", "set", std="3.30", setting="2 seeds")], {"set": EvaluationSet("set", 100)})
    assert finding.severity == "impossible" and "3.00" in finding.sentence
    (finding,) = audit([cell("50.00", "set", std="3.30", setting="single run")], {"set": EvaluationSet("set", 100)})
    assert finding.severity == "inconsistent"


def test_small_deviations_are_gone_through_exactly():
    by_hand = {(sum(k), round(3 * sum(x * x for x in k) - sum(k) ** 2)) for k in itertools.product(range(9), repeat=3)}
    for total, spread in itertools.product(range(9, 16), np.arange(0.1, 2.0, 0.1)):
        mean, std = printed(f"{total / 30:.6f}"), printed(f"{spread / 10:.4f}")
        wanted = any(
            s == total and std.holds(Fraction(math.sqrt(d / 3 / ddof) / 10).limit_denominator(10**9))
            for s, d in by_hand
            for ddof in (2, 3)
        )
        assert attainable(mean, std, 10, 3) == wanted


def test_numbers_out_of_range_and_unreadable_ones_are_told():
    found = audit(
        [cell("103.0"), cell("-120", "cola", "matthews"), cell("0.4", "wikitext2", "perplexity"), cell("~91")]
    )
    assert [f.severity for f in found] == ["impossible"] * 3 + ["notice"]


def test_the_evaluation_sets_agree_with_the_tasks_of_this_project():
    from kasa_corda.audit.sets import short
    from kasa_corda.cli.compose import composed

    for task, size in [
        ("glue/cola", 1043),
        ("glue/mrpc", 408),
        ("glue/rte", 277),
        ("glue/sst2", 872),
        ("glue/qnli", 5463),
    ]:
        known = read_sets()[short(task)]
        config = composed([f"task={task}", "model=minilm", "method=lora"])
        assert known.size == size == config.task.sizes["validation"]
        assert known.positive + known.negative == size and known.source.startswith("counted")
