"""Every metric against scikit-learn or scipy, and its defined answer where those warn or give NaN."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from kasa_corda.evaluation.metrics import INVALID, METRICS, standard_error

NAN = math.nan


def pairs(values: st.SearchStrategy) -> st.SearchStrategy:
    return st.lists(st.tuples(values, values), min_size=1, max_size=60).map(lambda rows: tuple(zip(*rows, strict=True)))


# no subnormal numbers: scipy's Pearson is off by up to 0.01 there (see the test of them below)
NUMBERS = st.one_of(st.integers(-3, 3).map(float), st.floats(-1e6, 1e6, allow_subnormal=False))


@settings(max_examples=150, deadline=None)
@given(pairs(st.integers(0, 1)))
def test_binary_metrics_equal_scikit_learn(drawn):
    predictions, references = drawn
    assert METRICS["accuracy"](predictions, references) == pytest.approx(accuracy_score(references, predictions))
    assert METRICS["f1"](predictions, references) == pytest.approx(f1_score(references, predictions, zero_division=0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = matthews_corrcoef(references, predictions)
    assert METRICS["matthews"](predictions, references) == pytest.approx(expected)


@settings(max_examples=100, deadline=None)
@given(pairs(st.integers(0, 3)))
def test_metrics_of_several_classes_equal_scikit_learn(drawn):
    predictions, references = drawn
    assert METRICS["accuracy"](predictions, references) == pytest.approx(accuracy_score(references, predictions))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = matthews_corrcoef(references, predictions)
    assert METRICS["matthews"](predictions, references) == pytest.approx(expected)


@settings(max_examples=150, deadline=None)
@given(pairs(NUMBERS))
def test_correlations_equal_scipy_and_are_zero_where_scipy_has_none(drawn):
    predictions, references = map(np.asarray, drawn)
    constant = len(set(predictions)) == 1 or len(set(references)) == 1
    for name, peer in (("pearson", pearsonr), ("spearman", spearmanr)):
        ours = METRICS[name](predictions, references)
        assert -1 <= ours <= 1
        if constant:
            assert ours == 0
        elif name == "spearman" or all(np.ptp(v) > 1e-6 * np.abs(v).max() for v in (predictions, references)):
            assert ours == pytest.approx(peer(predictions, references)[0], abs=1e-6)


def test_the_smallest_numbers_correlate_as_their_multiples_do():
    tiny, references = np.array([1, 0, -2, -1, -3]) * 5e-324, np.array([-3.0, -3, -2, 2, 1])
    exact = pearsonr([1, 0, -2, -1, -3], references)[0]
    assert METRICS["pearson"](tiny, references * 5e-324) == pytest.approx(exact)


@pytest.mark.parametrize("name", METRICS)
def test_a_perfect_prediction_scores_one(name):
    assert METRICS[name]([0, 1, 1, 0], [0, 1, 1, 0]) == pytest.approx(1)


@pytest.mark.parametrize(
    ("name", "predictions", "references", "expected"),
    [
        ("accuracy", [1, 1, 1], [1, 1, 1], 1.0),
        ("accuracy", [NAN, 1], [1, 1], 0.5),
        ("accuracy", [INVALID, INVALID], [0, 1], 0.0),
        ("accuracy", [math.inf, 0], [1, 0], 0.5),
        ("f1", [0, 0], [0, 0], 0.0),
        ("f1", [0, 0], [1, 1], 0.0),
        ("f1", [NAN, 1], [1, 1], 2 / 3),
        ("f1", [INVALID, INVALID], [1, 0], 0.0),
        ("matthews", [1, 1, 1], [1, 0, 1], 0.0),
        ("matthews", [0, 1, 1], [1, 1, 1], 0.0),
        ("matthews", [1, 1], [1, 1], 0.0),
        ("matthews", [NAN, NAN], [0, 1], 0.0),
        ("matthews", [1, 0], [0, 1], -1.0),
        ("pearson", [2.0, 2.0], [1.0, 3.0], 0.0),
        ("pearson", [1.0, 3.0], [2.0, 2.0], 0.0),
        ("pearson", [NAN, 1.0, 2.0], [0.0, 1.0, 2.0], 0.0),
        ("pearson", [math.inf, 1.0, 2.0], [0.0, 1.0, 2.0], 0.0),
        ("pearson", [1.0], [1.0], 0.0),
        ("pearson", [1e300, -1e300, 0.0], [1.0, -1.0, 0.0], 1.0),
        ("pearson", [0.1, 0.1, 0.1], [0.0, 1.0, 2.0], 0.0),
        ("spearman", [NAN, 1.0, 2.0], [0.0, 1.0, 2.0], 0.0),
        ("spearman", [5.0, 5.0, 5.0], [0.0, 1.0, 2.0], 0.0),
        ("spearman", [1.0, 10.0, 100.0], [0.0, 1.0, 2.0], 1.0),
        ("spearman", [3.0], [1.0], 0.0),
    ],
)
def test_degenerate_inputs_have_a_defined_score(name, predictions, references, expected):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert METRICS[name](predictions, references) == pytest.approx(expected)
        assert METRICS[name](np.asarray(predictions), np.asarray(references)) == pytest.approx(expected)


@pytest.mark.parametrize("name", METRICS)
def test_no_examples_and_unequal_lengths_are_refused(name):
    with pytest.raises(ValueError, match="no examples"):
        METRICS[name]([], [])
    with pytest.raises(ValueError, match="2 predictions for 1 references"):
        METRICS[name]([1, 2], [1])


def test_compute_has_the_shape_of_the_evaluate_library():
    import evaluate

    class Adapted(evaluate.Metric):
        def _info(self):
            import datasets

            features = datasets.Features(
                {"predictions": datasets.Value("int64"), "references": datasets.Value("int64")}
            )
            return evaluate.MetricInfo(description="", citation="", features=features)

        def _compute(self, predictions, references):
            return METRICS["matthews"].compute(predictions=predictions, references=references)

    inputs = {"predictions": [1, 0, 1, 1], "references": [1, 0, 0, 1]}
    assert Adapted().compute(**inputs) == METRICS["matthews"].compute(**inputs)


def test_standard_error_of_accuracy_is_the_binomial_one():
    assert standard_error("accuracy", [1] * 75 + [0] * 25, [1] * 100) == pytest.approx(math.sqrt(0.75 * 0.25 / 100))


def test_bootstrap_is_seeded_and_close_to_theory():
    generator = np.random.default_rng(1)
    x = generator.normal(size=400)
    y = 0.6 * x + 0.8 * generator.normal(size=400)
    error = standard_error("pearson", x, y)
    assert error == standard_error("pearson", x, y) != standard_error("pearson", x, y, seed=1)
    r = METRICS["pearson"](x, y)
    assert error == pytest.approx((1 - r**2) / math.sqrt(400), rel=0.15)


@pytest.mark.parametrize("name", ["f1", "matthews", "pearson", "spearman"])
def test_bootstrap_of_a_degenerate_split_is_finite(name):
    assert standard_error(name, [NAN, 1.0, 1.0], [1, 1, 1], resamples=50) >= 0
    assert standard_error(name, [1], [1], resamples=50) == 0
