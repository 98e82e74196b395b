"""Scores that are no fractions are shown as they are, and less of some is better."""

from __future__ import annotations

import pytest

from kasa_corda.evaluation.units import factor, higher_is_better
from kasa_corda.report import format
from kasa_corda.report.statistics import summarise


@pytest.mark.parametrize(
    ("metric", "shown", "better"),
    [
        ("exact_match", "850.00", True),
        ("nist", "8.50", True),
        ("e2e_cider", "8.50", True),
        ("perplexity", "8.50", False),
        ("wikitext2_perplexity", "8.50", False),
        ("loss", "8.50", False),
        ("glossing", "850.00", True),
    ],
)
def test_a_score_is_shown_in_the_unit_of_its_metric(metric, shown, better):
    assert format.percent(8.5, metric=metric) == shown
    assert format.spread(summarise([8.5]), metric) == shown
    assert higher_is_better(metric) is better
    assert factor(metric) in (1, 100)
