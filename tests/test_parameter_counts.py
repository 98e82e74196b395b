"""What every method trains on the shapes of the papers' models, against published and independently computed counts."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from kasa_corda.errors import Unfit
from kasa_corda.methods import METHODS
from kasa_corda.methods.groups import absence
from kasa_corda.paper.counts import Row, rows, trained

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

ROWS = rows()
MODELS = list(dict.fromkeys(row.model for row in ROWS))
SETTINGS = sorted({(row.model, row.method) for row in ROWS})


@pytest.mark.parametrize(("model", "method"), SETTINGS, ids="-".join)
def test_a_method_trains_the_number_of_parameters_that_the_table_says(model, method):
    if reason := absence(method):
        pytest.skip(f"{method}: {reason}")
    of_it = [row for row in ROWS if (row.model, row.method) == (model, method)]
    found = {row.setting: trained(row) for row in of_it if row.count is not None and not row.with_head}
    assert found == {row.setting: row.count for row in of_it if row.count is not None and not row.with_head}
    with_head = {row.setting: trained(row) for row in of_it if row.with_head}
    assert with_head == {row.setting: row.count for row in of_it if row.with_head}


@pytest.mark.parametrize("row", [row for row in ROWS if row.count is None], ids=lambda row: f"{row.model}-{row.method}")
def test_a_row_without_a_count_is_one_that_the_method_refuses(row):
    if reason := absence(row.method):
        pytest.skip(f"{row.method}: {reason}")
    with pytest.raises(Unfit):
        trained(row)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.model}-{row.method}-{row.published}")
def test_a_difference_to_the_published_number_is_explained_and_nothing_else_is(row: Row):
    assert row.source
    assert bool(row.explanation) == (row.published != row.count)


def test_the_five_models_of_the_comparison_are_in_the_table():
    assert {"roberta_base", "roberta_large", "deberta_v3_base", "gpt2_medium", "llama2_7b"} <= set(MODELS)
    assert len({row.method for row in ROWS} & set(METHODS.names())) >= 25


def test_the_table_can_be_printed_beside_ours(capsys, monkeypatch):
    import methods as script

    monkeypatch.setattr("kasa_corda.paper.counts.rows", lambda: [row for row in ROWS if row.method == "vera"][:3])
    assert script.main(["--published"]) == 0
    assert "43,008" in capsys.readouterr().out
    assert script.main(["--published", "model=minilm"]) == 2
