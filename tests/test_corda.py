"""CorDA: factors are what the definition says, the model starts unchanged, what is saved is what was trained."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import ARCHITECTURES, small
from test_calibration import model_of, sequences
from torch import Tensor

from kasa_corda.calibration import collect_covariances
from kasa_corda.calibration.samples import Calibration
from kasa_corda.calibration.settings import CalibrationConfig
from kasa_corda.corda import conditioned, corda_factors
from kasa_corda.corda.plusplus import LayerSpectrum, allocate, spectrum_of
from kasa_corda.corda.presets import PRESETS
from kasa_corda.errors import ConfigError, KasaCordaError
from kasa_corda.methods import METHODS
from kasa_corda.methods.base import AdaptContext

SHAPES = st.sampled_from([(12, 20), (20, 12), (16, 16), (5, 40), (40, 5)])


class Padding:
    padding_side, pad_token_id, pad_token_type_id = "right", 0, 0


def layer(shape: tuple[int, int], exponent: float, seed: int, spread: float = 1.6) -> tuple[Tensor, Tensor, Tensor]:
    """W, C and M = W C^exponent in float64, C well conditioned, M's singular values apart by 1.6 or less (a factor)."""
    generator = torch.Generator().manual_seed(seed)
    out_features, in_features = shape
    n = min(shape)
    U = torch.linalg.qr(torch.randn(out_features, n, generator=generator, dtype=torch.float64))[0]
    V = torch.linalg.qr(torch.randn(in_features, n, generator=generator, dtype=torch.float64))[0]
    Q = torch.linalg.qr(torch.randn(in_features, in_features, generator=generator, dtype=torch.float64))[0]
    power = 10 ** torch.linspace(2, 0, in_features, dtype=torch.float64)
    M = U * min(spread, 1e4 ** (1 / n)) ** -torch.arange(n, dtype=torch.float64) @ V.T
    return M @ (Q * power**-exponent) @ Q.T, (Q * power) @ Q.T, M


def by_definition(W: Tensor, C: Tensor, r: int, mode: str, exponent: float) -> Tensor:
    """U_r S_r V_r^T C^-exponent with an explicit SVD and an explicit inverse, all in float64."""
    values, Q = torch.linalg.eigh(C)
    power = (Q * values**exponent) @ Q.T
    U, S, Vh = torch.linalg.svd(W @ power, full_matrices=False)
    kept = slice(0, r) if mode == "ipa" else slice(len(S) - r, len(S))
    return U[:, kept] * S[kept] @ Vh[kept] @ torch.linalg.inv(power)


@given(
    SHAPES,
    st.sampled_from(["kpa", "ipa"]),
    st.sampled_from([0.0, 0.5, 1.0, 0.7]),
    st.integers(1, 4),
    st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_factors_equal_the_definition_to_1e_6(shape, mode, exponent, r, seed):
    W, C, _ = layer(shape, exponent, seed)
    A, B, residual = corda_factors(W, C, r, mode, exponent=exponent)
    expected = by_definition(W, C, r, mode, exponent)
    assert (B.double() @ A.double() - expected).norm() <= 1e-6 * expected.norm()
    assert (residual + B.double() @ A.double() - W).norm() <= 1e-12 * W.norm()


@given(SHAPES, st.sampled_from(["kpa", "ipa"]), st.integers(0, 99), st.floats(1e-4, 1e4))
@settings(max_examples=30, deadline=None)
def test_the_scale_of_the_covariance_moves_the_balance_but_not_the_product(shape, mode, seed, factor):
    W, C, _ = layer(shape, 1.0, seed)
    for balance in ("singular_values", "mean_one", "equal"):
        A, B, _ = corda_factors(W, C, 3, mode, balance=balance)
        scaled_A, scaled_B, _ = corda_factors(W, C * factor, 3, mode, balance=balance)
        torch.testing.assert_close(scaled_B @ scaled_A, B @ A, rtol=1e-4, atol=1e-5 * float((B @ A).abs().max()))
        moved = factor**0.5 if balance == "singular_values" else 1.0
        assert float(scaled_B.norm() / B.norm()) == pytest.approx(moved, rel=1e-4)


def test_paper_balance_is_the_square_root_of_the_singular_values():
    W, C, M = layer((12, 20), 1.0, 0)
    A, B, _ = corda_factors(W, C, 4, "ipa")
    S = torch.linalg.svdvals(M)[:4]
    torch.testing.assert_close(B.norm(dim=0).double(), S.sqrt(), rtol=1e-5, atol=0)
    inverse_free = A.double() @ C  # sqrt(S) V^T
    torch.testing.assert_close(inverse_free.norm(dim=1), S.sqrt(), rtol=1e-5, atol=0)


def test_equal_balance_gives_both_factors_the_same_norm():
    W, C, _ = layer((12, 20), 1.0, 0)
    A, B, _ = corda_factors(W, C, 4, "kpa", balance="equal", scale=2.0)
    assert float(A.norm()) == pytest.approx(float(B.norm()), rel=1e-5)


def test_exponent_zero_with_the_largest_components_is_pissa():
    from peft import LoraConfig, get_peft_model

    layer_, W = torch.nn.Linear(20, 12, bias=False), torch.randn(12, 20, generator=torch.Generator().manual_seed(0))
    layer_.weight.data = W.clone()
    wrapped = torch.nn.Sequential(layer_)
    adapted = get_peft_model(wrapped, LoraConfig(r=4, lora_alpha=4, init_lora_weights="pissa", target_modules=["0"]))
    theirs = adapted.base_model.model[0]
    A, B, residual = corda_factors(W, torch.eye(20), 4, "ipa", exponent=0.0)
    torch.testing.assert_close(B @ A, theirs.lora_B["default"].weight @ theirs.lora_A["default"].weight)
    torch.testing.assert_close(residual, theirs.base_layer.weight, rtol=1e-4, atol=1e-5)


def test_exponent_one_half_minimises_the_error_of_the_activations():
    generator = torch.Generator().manual_seed(0)
    W = torch.randn(12, 20, generator=generator, dtype=torch.float64)
    X = torch.randn(20, 400, generator=generator, dtype=torch.float64) * torch.logspace(0, -2, 20)[:, None]
    errors = {}
    for exponent in (0.0, 0.5, 1.0):
        A, B, _ = corda_factors(W, X @ X.T, 6, "ipa", exponent=exponent)
        errors[exponent] = float(((W - B.double() @ A.double()) @ X).norm())
    assert errors[0.5] < errors[0.0]
    assert errors[0.5] < errors[1.0]


@pytest.mark.parametrize("shape", [(12, 20), (20, 12), (30, 20)])
@pytest.mark.parametrize("mode", ["kpa", "ipa"])
@pytest.mark.parametrize("exponent", [0.5, 1.0])
def test_fewer_tokens_than_dimensions_still_give_a_projection_of_w(shape, mode, exponent):
    """Stated behaviour: B A is an orthogonal projection of W, never larger than W, whatever the covariance."""
    W, _, _ = layer(shape, 0.0, 3)
    X = torch.randn(shape[1], 5, generator=torch.Generator().manual_seed(1))
    found = conditioned(X @ X.T)
    assert found.damping > 0
    assert found.numerical_rank == 5
    assert found.condition > 1e7
    A, B, residual = corda_factors(W, X @ X.T, 3, mode, exponent=exponent)
    product = B.double() @ A.double()
    assert product.norm() <= W.norm() * (1 + 1e-6)
    torch.testing.assert_close(residual + product, W, rtol=0, atol=1e-12)
    U = torch.linalg.qr(B.double())[0]
    torch.testing.assert_close(U @ U.T @ W, product, rtol=0, atol=1e-5 * float(W.abs().max()))


def test_an_invertible_covariance_is_not_damped():
    _, C, _ = layer((12, 20), 1.0, 0)
    found = conditioned(C)
    assert (found.damping, found.doublings, found.numerical_rank) == (0.0, 0, 20)
    assert found.condition == pytest.approx(100, rel=1e-6)
    assert torch.equal(found.matrix, C)


def test_the_condition_of_a_wide_covariance_is_estimated():
    generator = torch.Generator().manual_seed(0)
    Q = torch.linalg.qr(torch.randn(1100, 1100, generator=generator, dtype=torch.float64))[0]
    power = torch.logspace(0, -4, 1100, dtype=torch.float64)
    assert conditioned((Q * power) @ Q.T).condition == pytest.approx(1e4, rel=0.1)
    power[500:] = 0
    assert conditioned((Q * power) @ Q.T).numerical_rank == pytest.approx(500, rel=0.02)


def test_zero_or_broken_covariances_are_refused():
    for C in (torch.zeros(4, 4), torch.full((4, 4), torch.nan)):
        with pytest.raises(KasaCordaError, match="zero or not finite"):
            conditioned(C)


# Whole models


def calibration(folder: Path | None = None, **changes) -> Calibration:
    config = CalibrationConfig(**{"batch_size": 4, **changes})
    return Calibration(config, calibration_rows(0), Padding(), "drawn", folder=folder)


def calibration_rows(seed: int) -> list[dict]:
    return [{"input_ids": ids.tolist(), "attention_mask": [1] * len(ids)} for ids in sequences(24, seed)]


def method_of(name: str = "corda_kpa", **options):
    cls = METHODS[name]
    return cls(cls.Config(**{"name": name, "rank": 4, "target_modules": "all_linear", **options}))


def context(architecture: str, **changes) -> AdaptContext:
    from kasa_corda.models.architecture import match_targets

    head = ["classifier"] if architecture in ("bert", "roberta", "deberta-v2") else ["score"]
    targets = list(match_targets(small(architecture), "all_linear"))
    return AdaptContext(targets, head, "SEQ_CLS", 0, 10, **{"calibration": calibration(), **changes})


def adapted(method, architecture: str, model=None, **changes):
    model = model if model is not None else model_of(architecture)
    told = context(architecture, **changes)
    method.prepare(model, told)
    return method.adapt(model, told).eval()


def logits(model) -> Tensor:
    ids = torch.arange(1, 17).reshape(2, 8)
    with torch.no_grad():
        return model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits


def change_everything_trained(model) -> None:
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.05 * parameter.abs().mean() * torch.randn_like(parameter)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_forward_pass_starts_unchanged(architecture):
    expected = logits(model_of(architecture))
    for name, variant in (
        ("corda_kpa", "paper"),
        ("corda_ipa", "authors"),
        ("corda_ipa", "peft"),
        ("corda_kpa", "balanced"),
    ):
        found = logits(adapted(method_of(name, variant=variant, alpha=8.0), architecture))
        assert (found - expected).abs().max() <= 2e-5 * expected.abs().max(), (name, variant)


def test_a_bfloat16_base_starts_unchanged_up_to_its_own_rounding():
    """Stated: the residual is rounded to bfloat16 once, so the start moves by about what a rounded weight moves."""
    exact = logits(model_of("llama"))
    rounded = logits(model_of("llama").bfloat16()).float()
    found = logits(adapted(method_of(), "llama", model=model_of("llama").bfloat16())).float()
    rounding = (rounded - exact).norm()
    assert (found - rounded).norm() <= 2 * rounding


@pytest.mark.parametrize("mode", ["streamed", "whole"])
def test_streamed_and_whole_preparation_give_the_same_adapters(mode):
    method = method_of()
    adapted(method, "qwen2", calibration=calibration(mode=mode))
    reference = method_of()
    adapted(reference, "qwen2", calibration=calibration(mode="whole"))
    for name, (A, B) in reference.prepared.adapters.items():
        torch.testing.assert_close(method.prepared.adapters[name], (A, B), rtol=0, atol=0)


def test_diagnostics_say_what_a_reader_must_know():
    method = method_of()
    adapted(method, "llama")
    report = method.report()
    row = report["layers"][0]
    assert row["layer"] == "model.layers.0.self_attn.q_proj"
    assert (row["tokens"], row["in"], row["rank"]) == (method.calibration["tokens"], 32, 4)
    assert len(report["layers"]) == 14
    assert report["calibration"]["fingerprint"] == calibration().fingerprint
    assert json.loads(json.dumps(report)) == report
    poor = method_of()
    few = calibration()
    few.rows = few.rows[:1]
    adapted(poor, "llama", calibration=few)
    first, second = poor.report()["notes"]
    assert "14 of 14 layers see fewer calibration tokens than they have inputs" in first
    assert "14 of 14 layers have a covariance of condition number above 1e+07" in second


@pytest.mark.parametrize("architecture", ["bert", "gpt2", "llama"])
@pytest.mark.parametrize("name", ["corda_kpa", "corda_ipa", "pissa"])
def test_the_converted_form_loads_with_plain_peft_on_the_untouched_base(architecture, name, tmp_path):
    from peft import PeftModel

    method = method_of(name)
    model = adapted(method, architecture)
    change_everything_trained(model)
    method.save(model, tmp_path, "base")
    loaded = PeftModel.from_pretrained(model_of(architecture), tmp_path).eval()
    assert loaded.peft_config["default"].r == 8
    torch.testing.assert_close(logits(loaded), logits(model), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(
        logits(method.load(model_of(architecture), tmp_path).eval()), logits(model), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("architecture", ["bert", "gpt2"])
def test_the_residual_form_loads_with_plain_peft_on_the_residual_base(architecture, tmp_path):
    from peft import PeftModel
    from safetensors.torch import load_file

    method = method_of(storage="residual")
    model = adapted(method, architecture)
    change_everything_trained(model)
    method.save(model, tmp_path, "base")
    base = model_of(architecture)
    base.load_state_dict(load_file(tmp_path / "residual.safetensors"), strict=False)
    loaded = PeftModel.from_pretrained(base, tmp_path).eval()
    assert loaded.peft_config["default"].r == 4
    torch.testing.assert_close(logits(loaded), logits(model), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(logits(method.load(model_of(architecture), tmp_path).eval()), logits(model))
    merged = method.merge(copy.deepcopy(model))
    torch.testing.assert_close(logits(merged), logits(model), rtol=1e-4, atol=1e-4)


class Stop(Exception):
    pass


def test_an_interrupted_preparation_goes_on_at_the_block_it_reached(tmp_path, monkeypatch):
    from kasa_corda.corda import preparation

    whole = method_of()
    adapted(whole, "llama")
    decomposed = []
    original = preparation.decompose_part

    def stopping(part, recipe):
        decomposed.append(part.name)
        if decomposed.count("model.layers.1") == 1 and part.name == "model.layers.1":
            raise Stop
        return original(part, recipe)

    monkeypatch.setattr(preparation, "decompose_part", stopping)
    with pytest.raises(Stop):
        adapted(method_of(), "llama", calibration=calibration(tmp_path / "state"))
    resumed = method_of()
    model = adapted(resumed, "llama", calibration=calibration(tmp_path / "state"))
    assert decomposed == ["model.layers.0", "model.layers.1", "model.layers.1"]
    for name, pair in whole.prepared.adapters.items():
        torch.testing.assert_close(resumed.prepared.adapters[name], pair, rtol=0, atol=0)
    assert resumed.report()["layers"] == whole.report()["layers"]
    torch.testing.assert_close(logits(model), logits(model_of("llama")), rtol=1e-4, atol=1e-4)


def test_finished_blocks_of_another_request_or_damaged_ones_are_not_used(tmp_path):
    adapted(method_of(), "llama", calibration=calibration(tmp_path / "state"))
    fresh, other = method_of(rank=3), method_of(rank=3)
    adapted(fresh, "llama")
    adapted(other, "llama", calibration=calibration(tmp_path / "state"))
    (tmp_path / "state" / "block-model.layers.1.safetensors").write_bytes(b"torn")
    again = method_of(rank=3)
    adapted(again, "llama", calibration=calibration(tmp_path / "state"))
    for method in (other, again):
        for name, pair in fresh.prepared.adapters.items():
            torch.testing.assert_close(method.prepared.adapters[name], pair, rtol=0, atol=0)


def test_a_folder_that_cannot_be_written_only_costs_the_resume(tmp_path):
    (tmp_path / "file").write_text("in the way")
    method = method_of()
    adapted(method, "llama", calibration=calibration(tmp_path / "file" / "state"))
    assert "finished blocks are not kept" in method.report()["notes"][-1]


def test_nan_weights_and_impossible_ranks_name_the_layer():
    model = model_of("llama")
    model.model.layers[1].mlp.down_proj.weight.data[0, 0] = torch.nan
    with pytest.raises(KasaCordaError, match=r"layers\.1\.mlp\.down_proj"):
        adapted(method_of(), "llama", model=model)
    with pytest.raises(ConfigError, match=r"method\.rank=32 keeps no component of layer"):
        method_of(rank=32).check({"layer": (48, 32)})


# CorDA++ (experimental)


def spectrum(values: list[float], log_compactness: float = 1.0, out: int = 8, into: int = 8) -> LayerSpectrum:
    return LayerSpectrum(out, into, tuple(values), log_compactness)


def test_compactness_and_selection_score_follow_the_notes():
    W, C, M = layer((12, 20), 1.0, 0)
    found = spectrum_of(W, conditioned(C))
    S, power = torch.linalg.svdvals(M), torch.linalg.eigvalsh(C)
    compactness = (12 * power[-1]).sqrt() / power[0]
    assert found.log_compactness == pytest.approx(float(compactness.log()))
    assert found.selection_score == pytest.approx(float(compactness.log() * S.sum() / S[0]))


@given(st.integers(0, 99), st.integers(1, 6), st.sampled_from(["kpa", "ipa"]))
@settings(max_examples=30, deadline=None)
def test_allocated_ranks_fill_the_budget_and_no_more(seed, rank, mode):
    generator = torch.Generator().manual_seed(seed)
    spectra = {}
    for name in "abc":
        out, into = torch.randint(8, 20, (2,), generator=generator).tolist()
        values = torch.rand(min(out, into), generator=generator).sort(descending=True).values.tolist()
        spectra[name] = spectrum(values, 1 + float(torch.rand(1, generator=generator)), out, into)
    ranks = allocate(spectra, rank, mode)
    costs = {name: s.out_features + s.in_features for name, s in spectra.items()}
    used = sum(costs[name] * count for name, count in ranks.items())
    budget = sum(costs.values()) * rank
    assert budget - max(costs.values()) < used <= budget
    assert all(1 <= count < len(spectra[name].values) for name, count in ranks.items())


def test_a_layer_of_small_values_gives_kpa_more_and_ipa_fewer_ranks():
    flat, steep = spectrum([1.0] * 8), spectrum([1.0, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001])
    kpa, ipa = (allocate({"flat": flat, "steep": steep}, 3, mode) for mode in ("kpa", "ipa"))
    assert kpa["steep"] > kpa["flat"]
    assert ipa["steep"] < ipa["flat"]


@pytest.mark.parametrize("name", ["corda_kpa", "corda_ipa"])
def test_dynamic_ranks_start_unchanged_and_reload_with_plain_peft(name, tmp_path):
    from peft import PeftModel

    method = method_of(name, allocation="dynamic")
    model = adapted(method, "llama")
    assert len({A.shape[0] for A, _ in method.prepared.adapters.values()}) > 1
    torch.testing.assert_close(logits(model), logits(model_of("llama")), rtol=1e-4, atol=1e-4)
    change_everything_trained(model)
    method.save(model, tmp_path, "base")
    loaded = PeftModel.from_pretrained(model_of("llama"), tmp_path).eval()
    torch.testing.assert_close(logits(loaded), logits(model), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("mode", ["streamed", "whole"])
def test_every_layer_keeps_the_candidate_covariance_with_the_lowest_score(mode):
    samples = calibration(mode=mode)
    samples.alternatives = [calibration_rows(seed) for seed in (1, 2)]
    method = method_of()
    adapted(method, "llama", calibration=samples)
    scores = []
    for rows in (samples.rows, *samples.alternatives):
        batches = Calibration(samples.config, rows, Padding(), "drawn").batches()
        model = model_of("llama")
        found = collect_covariances(model, batches, context("llama").targets)
        scores.append(
            {
                n: spectrum_of(model.get_submodule(n).weight, conditioned(c.matrix)).selection_score
                for n, c in found.items()
            }
        )
    for row in method.report()["layers"]:
        candidates = [score[row["layer"]] for score in scores]
        assert row["candidate"] == candidates.index(min(candidates))
    assert {row["candidate"] for row in method.report()["layers"]} != {0}


# Peers


@pytest.mark.parametrize(("name", "theirs"), [("corda_kpa", "kpm"), ("corda_ipa", "ipm")])
def test_the_subspace_kept_is_that_of_peft_under_the_same_switches(name, theirs):
    """Both within 1e-3 of each other; by the float64 definition ours is the nearer one."""
    from peft import LoraConfig
    from peft.tuners.lora.config import CordaConfig as PeftCordaConfig
    from peft.tuners.lora.corda import preprocess_corda

    method, samples = method_of(name, variant="peft", alpha=8.0), calibration(batch_size=1)
    adapted(method, "llama", calibration=samples)
    config = LoraConfig(r=4, lora_alpha=8, target_modules=context("llama").targets, init_lora_weights="corda")
    config.corda_config = PeftCordaConfig(corda_method=theirs)
    peer = model_of("llama")
    preprocess_corda(peer, config, run_model=lambda: [peer(input_ids=b["input_ids"]) for b in samples.batches()])

    exact = model_of("llama").double()
    switches = {"normalisation": "signed_max", "divisor": "calls", "precision": "float64"}
    covariances = collect_covariances(exact, samples.batches(), context("llama").targets, **switches)
    errors: dict[str, list[float]] = {"ours": [], "peft": []}
    for layer_name, (A, B) in method.prepared.adapters.items():
        C, W = covariances[layer_name].matrix.clone(), exact.get_submodule(layer_name).weight.detach()
        C.diagonal().add_(0.01 * C.diagonal().mean())
        expected = by_definition(W, C, 4, "kpa" if theirs == "kpm" else "ipa", 1.0)
        span = torch.linalg.svd(expected)[0][:, :4]
        eigens = peer.get_submodule(layer_name).eigens
        assert sine(eigens.U_WC.double(), torch.linalg.qr(B.double())[0]) <= 1e-3
        torch.testing.assert_close(B.norm(dim=0), (eigens.S_WC / 2).sqrt(), rtol=1e-3, atol=0)
        assert (2.0 * B.double() @ A.double() - expected).norm() <= 1e-3 * expected.norm()
        errors["ours"].append(sine(B.double(), span))
        errors["peft"].append(sine(eigens.U_WC.double(), span))
    assert max(errors["ours"]) <= max(errors["peft"])


def sine(B: Tensor, exact: Tensor) -> float:
    """Sine of the largest angle between the span of B and orthonormal columns."""
    Q = torch.linalg.qr(B)[0]
    return float(torch.linalg.matrix_norm(Q - exact @ (exact.T @ Q), 2))


def test_presets_name_switches_that_exist():
    for preset in PRESETS:
        assert method_of(variant=preset).report() == {}


# Runs


@pytest.mark.parametrize(
    "options", [["method=corda_ipa"], ["method=corda_ipa", "method.storage=residual"], ["method=pissa"]]
)
def test_a_run_saves_an_adapter_that_repeats_its_predictions(run_py, tiny_glue, options):
    from kasa_corda.store import find_runs
    from kasa_corda.tasks import TASKS
    from kasa_corda.trained import load_run

    done = run_py(*options, "method.rank=4", "calibration.length=32")
    assert done.returncode == 0, done.stderr
    (run,) = find_runs(run_py.folder / "runs")
    assert not (run.path / "preparation").exists()
    trained = load_run(run.path)
    data = TASKS["glue"](trained.config.task).load(tiny_glue, "held_out")
    answers = trained.predict([example.text for example in data.test["test"]])
    labels = trained.task.config.labels
    assert [labels.index(answer["label"]) for answer in answers] == [
        row["prediction"] for row in run.predictions("test")
    ]


def test_calibration_belongs_to_the_run_only_where_a_method_uses_it():
    from conftest import compose

    from kasa_corda.config import run_id

    def identity(*overrides: str) -> str:
        return run_id(compose(*overrides))

    assert identity("method=lora") == identity("method=lora", "calibration=wikitext2", "calibration.samples=7")
    assert identity("method=corda_ipa") != identity("method=corda_ipa", "calibration.samples=7")
    assert identity("method=corda_ipa") == identity("method=corda_ipa", "calibration.batch_size=2")


def test_every_calibration_config_composes_and_is_valid():
    from conftest import ROOT, compose

    from kasa_corda.calibration.settings import check_calibration
    from kasa_corda.config.validate import typed

    folder = ROOT / "configs" / "calibration"
    names = [str(path.relative_to(folder).with_suffix("")) for path in folder.rglob("*.yaml")]
    for name in names:
        plain = compose("method=corda_kpa", "model=smollm2_135m", f"calibration={name}")
        config = typed(plain)
        if name in ("file", "tasks"):
            continue  # they need a path or names
        check_calibration(config.calibration, config.model)


def test_a_quantised_layer_is_refused():
    from kasa_corda.corda.layers import weight_of

    packed = torch.nn.Linear(4, 4)
    packed.weight = torch.nn.Parameter(torch.zeros(4, 4, dtype=torch.int8), requires_grad=False)
    with pytest.raises(KasaCordaError, match=r"stores torch.int8: load the base unquantised"):
        weight_of(packed)
