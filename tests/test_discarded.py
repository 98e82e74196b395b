"""method=discarded: a model without the smallest components of its layers, scored as it then is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from conftest import compose

from kasa_corda.calibration.samples import Calibration
from kasa_corda.calibration.settings import CalibrationConfig
from kasa_corda.config import run_id
from kasa_corda.errors import ConfigError
from kasa_corda.methods import METHODS
from kasa_corda.methods.base import AdaptContext
from kasa_corda.spectrum.discard import activation_scales, discarding, left_vectors, weight_of

TARGETS = ["model.layers.0.mlp.gate_proj", "model.layers.1.mlp.down_proj", "model.layers.1.self_attn.q_proj"]
WAYS = ("plain", "asvd", "corda")


def method(**options):
    return METHODS["discarded"](METHODS["discarded"].Config(name="discarded", **options))


class Texts(Calibration):
    """Random tokens instead of texts."""

    def batches(self):
        ids = torch.randint(3, 20, (30, 24), generator=torch.Generator().manual_seed(0))
        return [{"input_ids": ids, "attention_mask": torch.ones_like(ids)}]


def context(calibration: Calibration | None = None) -> AdaptContext:
    return AdaptContext(TARGETS, [], "CAUSAL_LM", 0, 0, calibration=calibration)


@pytest.fixture
def model(folders):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folders("llama")).eval()


@pytest.mark.parametrize("way", WAYS)
def test_each_way_cuts_what_the_papers_figure_cuts(way: str, model) -> None:
    rows = [{"input_ids": [5] * 24, "attention_mask": [1] * 24}]
    calibration = Texts(CalibrationConfig(mode="whole"), rows, None, "random")
    before = {name: weight_of(model.get_submodule(name)).clone() for name in TARGETS}
    scales = activation_scales(model, calibration.batches(), TARGETS)
    covariances = {}
    if way == "corda":
        from kasa_corda.calibration.collect import collect_covariances

        covariances = {n: c.matrix for n, c in collect_covariances(model, calibration.batches(), TARGETS).items()}
    vectors = {name: left_vectors(before[name], way, covariances.get(name), scales[name]) for name in TARGETS}
    with torch.no_grad(), discarding({n: model.get_submodule(n) for n in TARGETS}, vectors, 3):
        wanted = {name: weight_of(model.get_submodule(name)).clone() for name in TARGETS}

    method(decomposition=way, discard=3).prepare(model, context(None if way == "plain" else calibration))
    for name in TARGETS:
        found = weight_of(model.get_submodule(name))
        assert not torch.allclose(found, before[name], atol=1e-4)
        assert torch.allclose(found, wanted[name], atol=1e-5), name


def test_nothing_discarded_is_the_model_as_it_is(model) -> None:
    before = {name: weight_of(model.get_submodule(name)).clone() for name in TARGETS}
    method(discard=0).prepare(model, context())
    assert all(torch.equal(weight_of(model.get_submodule(name)), before[name]) for name in TARGETS)


def test_more_components_than_a_layer_has_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"method\.discard=8 must be at least 0 and below .* 8"):
        method(discard=8).check({"layer": (8, 12)})
    with pytest.raises(ConfigError, match="at least 0"):
        method(discard=-1).check({"layer": (8, 12)})


def test_only_a_plain_decomposition_is_the_same_whatever_the_calibration() -> None:
    def ids(way: str) -> set[str]:
        overrides = ["method=discarded", f"method.decomposition={way}", "task=gsm8k_solutions", "model=smollm2_135m"]
        return {run_id(compose(*overrides, f"calibration.samples={n}")) for n in (32, 256)}

    assert len(ids("plain")) == 1
    assert len(ids("asvd")) == len(ids("corda")) == 2


def test_a_run_has_a_likelihood_and_discarding_costs_some(tmp_path: Path, run_py) -> None:
    from small_language_model import save_language_model

    folder = tmp_path / "gsm8k"
    folder.mkdir()
    lines = [
        json.dumps({"question": f"What is {n} + 1?", "answer": f"{n} + 1 = {n + 1}\n#### {n + 1}"}) for n in range(40)
    ]
    for name in ("train", "test"):
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    model = save_language_model(tmp_path / "model")
    done = run_py(
        "-m", "method=discarded", "method.decomposition=corda,plain", "method.discard=0,12", "task=gsm8k_solutions",
        "model=local", f"model.path={model}", f"data_dir={tmp_path}", f"run_root={tmp_path / 'runs'}",
        "calibration.samples=16", "task.held_out=8", "task.max_length=320",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    found = {}
    for file in (tmp_path / "runs").rglob("result.json"):
        asked = yaml.safe_load((file.parent / "config.yaml").read_text())["method"]
        found[asked["decomposition"], asked["discard"]] = json.loads(file.read_text())
    likelihood = {key: result["best"]["test"]["answer_likelihood"] for key, result in found.items()}
    assert likelihood["corda", 0] == likelihood["plain", 0]
    assert len(set(likelihood.values())) == 3
    assert any("12 smallest components" in note for note in found["plain", 12]["notes"])
