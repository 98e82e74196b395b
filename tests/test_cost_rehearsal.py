"""Rehearsals and the calibration, at shapes of milliseconds."""

from __future__ import annotations

from pathlib import Path

import pytest

from kasa_corda.cli.compose import composed
from kasa_corda.cost.calibrate import calibrated
from kasa_corda.cost.observed import as_json, compared, read
from kasa_corda.cost.profile import profile_for
from kasa_corda.cost.rehearsal import rehearse

TINY = (
    "model=roberta_base",
    "model.layers=2",
    "model.hidden_size=32",
    "model.intermediate_size=64",
    "model.heads=2",
    "model.vocab_size=500",
    "task=glue/cola",
    "trainer.batch_size=4",
    "trainer.accumulation=2",
)


def test_a_rehearsal_measures_steps_and_is_read_back_with_a_prediction(tmp_path: Path) -> None:
    found = rehearse(composed(["method=kasa", "method.control=no_truncation", *TINY]), steps=3)
    assert 0 < found.seconds["step"] < 5
    assert found.batch is not None
    assert found.batch["rows"] == 2
    assert found.batch["length"] <= found.batch["longest"] <= 47
    (tmp_path / "one.json").write_text(as_json([found]))
    (again,) = read(tmp_path)
    assert again == found
    assert {c.what for c in compared(again, profile_for(found.device))} >= {"step"}


def test_a_calibrated_method_is_rehearsed_as_a_lora_of_its_rank() -> None:
    found = rehearse(
        composed(["method=corda_ipa", "method.rank=4", "method.target_modules=all_linear", *TINY]), steps=1
    )
    assert found.config["method"]["name"] == "lora"
    assert found.config["method"]["rank"] == 4


def test_a_calibration_is_kept_in_the_cache_and_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KASA_CORDA_CACHE", str(tmp_path))
    profile, path = calibrated(steps=2)
    assert path.is_relative_to(tmp_path)
    assert "calibration here" in profile.fitted_on
    assert profile_for() == profile
