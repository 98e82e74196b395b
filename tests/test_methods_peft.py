"""The methods that live in PEFT's own tuners: counts, and each trap that they hold, as a specification."""

from __future__ import annotations

import copy
import math
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from method_cases import Case, base_model, batch, logits, train
from safetensors.torch import load_file
from small_models import small

from kasa_corda.api import Adapted, adapt
from kasa_corda.cli.compose import composed
from kasa_corda.errors import ConfigError
from kasa_corda.methods import METHODS
from kasa_corda.methods.ia3 import is_down_projection
from kasa_corda.models.empty import transformers_config
from kasa_corda.plan import counted

TUNERS = ["adalora", "vera", "fourierft", "loha", "lokr", "ia3", "miss", "oft", "boft", "hra"]
ALL = "method.target_modules=all_linear"
COUNTS = [
    ("roberta_base", "fourierft", 24_000, []),
    ("roberta_base", "ia3", 55_296, []),
    ("roberta_large", "ia3", 147_456, []),
    ("roberta_base", "loha", 589_824, []),
    ("roberta_base", "lokr", 26_112, []),
    ("roberta_base", "lokr", 74_112, ["method.factor=4", "method.decompose_both=true"]),
    ("roberta_base", "miss", 1_179_648, []),
    ("roberta_base", "vera", 43_008, ["method.rank=1024"]),
    ("deberta_v3_base", "vera", 101_376, [ALL]),
    ("llama2_7b", "ia3", 614_400, []),
    ("llama2_7b", "miss", 87_031_808, [ALL]),
    ("llama2_7b", "loha", 79_953_920, [ALL, "method.rank=16"]),
    # by the formulas: 2 d^2 L with blocks of b: in / b x b (b - 1) / 2; m in b + out; r in
    ("roberta_base", "oft", 24 * 768 // 32 * 32 * 31 // 2, []),
    ("roberta_base", "boft", 24 * (2 * 768 * 4 + 768), []),
    ("roberta_base", "hra", 24 * 768 * 8, []),
]


@pytest.mark.parametrize(("model", "method", "expected", "options"), COUNTS)
def test_the_trainable_count_is_the_published_or_computed_one(
    model: str, method: str, expected: int, options: list[str]
) -> None:
    assert count(model, method, *options) == expected


@pytest.mark.parametrize(
    ("model", "listed", "matrices", "options"),
    [
        ("roberta_base", 442_680, 24, []),
        ("deberta_v3_base", 1_991_592, 72, [ALL]),
        ("llama2_7b", 29_985_632, 224, [ALL]),
    ],
)
def test_adalora_counts_what_trains_not_pefts_frozen_rank_per_matrix(
    model: str, listed: int, matrices: int, options: list[str]
) -> None:
    assert count(model, "adalora", *options) == listed - matrices


def count(model: str, method: str, *options: str) -> int:
    task = "gsm8k" if model.startswith(("llama", "gpt2")) else "glue/sst2"
    config = composed([f"task={task}", f"model={model}", f"method={method}", *options])
    return counted(config, 0)[1]["adapter"]


# every tuner


@pytest.mark.parametrize("method", TUNERS)
def test_nothing_that_a_run_does_warns(method: str, tmp_path: Path) -> None:
    for kind in ("encoder", "decoder"):
        case = Case(method, kind)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.simplefilter("ignore", FutureWarning)
            adapted = case.adapted()
            train(adapted, kind, 2, 5e-3)
            adapted.method.save(adapted.model, tmp_path / kind, "small")
            case.loaded(tmp_path / kind)
            adapted.method.merge(adapted.model)


@pytest.mark.parametrize("method", TUNERS)
def test_what_was_loaded_can_be_given_labels(method: str, tmp_path: Path) -> None:
    case = Case(method, "encoder")
    adapted = case.adapted()
    train(adapted, "encoder", 2, 5e-3)
    adapted.method.save(adapted.model, tmp_path, "small")
    there, here = (model(**batch("encoder")).loss.detach() for model in (case.loaded(tmp_path), adapted.model))
    assert torch.allclose(there, here, atol=1e-6)


@pytest.mark.parametrize("method", TUNERS)
@pytest.mark.parametrize("architecture", ["bert", "deberta-v2"])
def test_merging_works_whatever_the_head_is_made_of(method: str, architecture: str) -> None:
    """RoBERTa's, where PEFT raises AttributeError, is in the contract."""
    adapted = adapt(classifier(architecture), method, target_modules=targets(method), **Case(method, "encoder").options)
    train(adapted, "encoder", 2, 5e-3)
    expected = logits(adapted.model, "encoder")
    assert torch.allclose(logits(adapted.method.merge(adapted.model), "encoder"), expected, atol=1e-4)


@pytest.mark.parametrize("method", TUNERS)
def test_gpt2_is_adapted_without_warnings_or_refused_where_peft_can_not(method: str) -> None:
    chosen = METHODS[method]
    options = Case(method, "decoder").options
    if "gpt2" not in chosen.facts.refuses:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.simplefilter("ignore", FutureWarning)
            adapted = adapt(gpt2(), method, target_modules=targets(method), **options)
        train(adapted, "decoder", 2, 5e-3)
        expected = logits(adapted.model, "decoder")
        assert torch.allclose(logits(adapted.method.merge(adapted.model), "decoder"), expected, atol=1e-4)
        return
    with pytest.raises(ConfigError, match=r"gpt2 models: .*Conv1D"):
        adapt(gpt2(), method, **options)
    context = adapted_context(gpt2(), ["transformer.h.0.attn.c_attn"])
    with pytest.raises((TypeError, ValueError, NotImplementedError)):
        chosen(chosen.Config(name=method, **options)).adapt(gpt2(), context)


def adapted_context(model: Any, names: list[str]) -> Any:
    from kasa_corda.methods.base import AdaptContext

    return AdaptContext(names, [], "CAUSAL_LM", seed=0, total_steps=10)


def targets(method: str) -> str:
    return "kv_down" if method == "ia3" else "all_linear"


def gpt2() -> torch.nn.Module:
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(transformers_config(small("gpt2"))).eval()


def classifier(architecture: str) -> torch.nn.Module:
    from transformers import AutoModelForSequenceClassification

    config = transformers_config(small(architecture))
    config.pad_token_id = 0
    torch.manual_seed(0)
    return AutoModelForSequenceClassification.from_config(config).eval()


# AdaLoRA


def adalora(kind: str = "encoder", **options: Any) -> Adapted:
    options = {"rank": 2, "init_rank": 4, "total_steps": 20, "delta_t": 3, "tinit": 2, "tfinal": 8, **options}
    return adapt(base_model(kind), "adalora", target_modules="all_linear", **options)


def matrices(model: Any) -> list[torch.Tensor]:
    named = [(n, p) for n, p in model.named_parameters() if ".lora_A." in n or ".lora_B." in n]
    return [p if ".lora_A." in n else p.T for n, p in named]


@pytest.mark.parametrize("training", [True, False])
def test_adaloras_penalty_is_the_auxiliary_loss_and_never_in_the_models(training: bool) -> None:
    model, method = adalora(orthogonality=0.5)
    train(Adapted(model, method), "encoder", 3, 5e-3)
    inputs = batch("encoder")
    torch.manual_seed(7)  # dropout
    outputs = model.train(training)(**inputs)
    task = torch.nn.functional.cross_entropy(outputs.logits, inputs["labels"])
    assert torch.allclose(outputs.loss, task, atol=1e-6)
    deviations = [torch.dist(P @ P.T, torch.eye(len(P))) for P in matrices(model)]
    expected = 0.5 * sum(deviations) / len(deviations)
    assert torch.allclose(method.auxiliary_loss(model), expected, rtol=1e-5)
    torch.manual_seed(7)
    peft_forward = type(model.base_model).__mro__[1].forward
    assert torch.allclose(peft_forward(model.base_model, **inputs).loss, task + expected, rtol=1e-5)


def test_adaloras_penalty_has_the_gradient_of_its_value() -> None:
    model, method = adalora()
    method.auxiliary_loss(model).backward()
    expected = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    method.add_auxiliary_gradient(model, 1.0)
    found = [p.grad for p in model.parameters() if p.grad is not None]
    assert all(torch.allclose(a, b, atol=1e-7) for a, b in zip(expected, found, strict=True))


def test_adalora_ends_with_the_average_rank_asked_for_and_stores_only_that(tmp_path: Path) -> None:
    adapted = adalora()
    train(adapted, "encoder", 20, 5e-3)
    ranks = [row["rank"] for row in adapted.method.report()["layers"]]
    assert sum(ranks) == 2 * len(ranks) and len(set(ranks)) > 1
    adapted.method.save(adapted.model, tmp_path, "small")
    stored = sum(t.numel() for n, t in load_file(tmp_path / "adapter_model.safetensors").items() if ".lora_" in n)
    trained = sum(p.numel() for n, p in adapted.model.named_parameters() if ".lora_" in n)
    assert stored < trained
    assert f"trains {trained:,} adapter" in adapted.method.report()["notes"][0]
    rows = sum(max(rank, 1) for rank in ranks)
    assert stored == pytest.approx(trained * rows / (4 * len(ranks)), rel=0.1)


@pytest.mark.parametrize("steps", [1, 4, 5, 8, 13, 20])
def test_adalora_stores_what_the_model_computes_at_any_step(steps: int, tmp_path: Path) -> None:
    """Between two prunings pruned rows come back, which PEFT's rank pattern doesn't know of."""
    adapted = adalora()
    train(adapted, "encoder", steps, 5e-3)
    adapted.method.save(adapted.model, tmp_path, "small")
    options = {"rank": 2, "init_rank": 4}
    chosen = METHODS["adalora"]
    loaded = chosen(chosen.Config(name="adalora", **options)).load(base_model("encoder"), tmp_path)
    assert torch.allclose(logits(loaded, "encoder"), logits(adapted.model, "encoder"), atol=1e-6)


@pytest.mark.parametrize("stopped", [4, 10, 14])
def test_adalora_goes_on_from_a_checkpoint_as_if_never_stopped(stopped: int) -> None:
    whole, part = adalora(), adalora()
    steps(whole, range(20))
    steps(part, range(stopped))
    resumed = adalora()
    resumed.method.restore(resumed.model, copy.deepcopy(part.method.trained_state(part.model)))
    steps(resumed, range(stopped, 20))
    expected, found = (run.method.trained_state(run.model) for run in (whole, resumed))
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def steps(run: Adapted, numbers: range) -> None:
    """Gradient descent without a state of its own."""
    run.model.eval()
    for step in numbers:
        run.model(**batch("encoder", step)).loss.backward()
        with torch.no_grad():
            for p in run.model.parameters():
                if p.requires_grad:
                    p -= 0.5 * p.grad
        run.method.after_step(run.model, step)
        run.model.zero_grad()


def test_a_step_that_overflowed_leaves_adaloras_sensitivities_finite() -> None:
    model, method = adalora()
    model(**batch("encoder")).loss.backward()
    next(p for n, p in model.named_parameters() if ".lora_A." in n).grad.fill_(math.inf)
    method.after_step(model, 0)
    assert all(torch.isfinite(t.float()).all() for t in method.trained_state(model).values())


@pytest.mark.parametrize(
    ("steps", "options", "expected"),
    [
        (1000, {}, (1000, 150, 500)),
        (5, {}, (5, 0, 2)),
        (1, {}, (2, 0, 0)),
        (100, {"tinit": 10, "tfinal": 40}, (100, 10, 40)),
    ],
)
def test_adaloras_schedule_follows_from_the_steps_of_the_run(steps: int, options: Any, expected: Any) -> None:
    chosen = METHODS["adalora"]
    assert chosen(chosen.Config(name="adalora", **options)).schedule(steps) == expected


def test_adalora_refuses_a_schedule_without_pruning_and_unknown_steps() -> None:
    with pytest.raises(ConfigError, match="tfinal=3500 leave none of 20 steps"):
        adalora(tinit=800, tfinal=3500)
    with pytest.raises(ConfigError, match="must know the optimizer steps"):
        adalora(total_steps=None)
    with pytest.raises(ConfigError, match="init_rank=2 leaves nothing to prune"):
        adalora(init_rank=2)


# the others


def test_ia3_scales_exactly_the_papers_layers() -> None:
    config = composed(["task=glue/sst2", "model=roberta_base", "method=ia3"])
    context, _ = counted(config, 0)
    assert len(context.targets) == 36
    down = [name for name in context.targets if is_down_projection(name)]
    assert down == [f"roberta.encoder.layer.{i}.output.dense" for i in range(12)]
    assert not is_down_projection("roberta.encoder.layer.0.attention.output.dense")
    assert is_down_projection("model.layers.3.mlp.down_proj") and is_down_projection("transformer.h.0.mlp.c_proj")
    assert not is_down_projection("transformer.h.0.attn.c_proj")


def test_ia3_scales_inputs_of_the_down_projection_and_outputs_of_the_rest() -> None:
    model, _ = adapt(base_model("encoder"), "ia3")
    for name, module in model.named_modules():
        if hasattr(module, "ia3_l"):
            size = module.in_features if is_down_projection(name) else module.out_features
            assert module.ia3_l["default"].numel() == size
            assert module.is_feedforward == is_down_projection(name)


def test_vera_without_stored_projections_is_smaller_and_needs_only_the_seed(tmp_path: Path) -> None:
    sizes = {}
    for stored in (True, False):
        options = {"rank": 64, "save_projection": stored}
        adapted = adapt(base_model("decoder"), "vera", target_modules="all_linear", seed=4, **options)
        train(adapted, "decoder", 3)
        adapted.method.save(adapted.model, tmp_path / str(stored), "small")
        sizes[stored] = (tmp_path / str(stored) / "adapter_model.safetensors").stat().st_size
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            chosen = METHODS["vera"]
            loaded = chosen(chosen.Config(name="vera", **options)).load(base_model("decoder"), tmp_path / str(stored))
        assert torch.equal(logits(loaded, "decoder"), logits(adapted.model, "decoder"))
    assert sizes[False] < sizes[True] / 3


def test_veras_projections_are_drawn_from_the_seed_of_the_run() -> None:
    models = [adapt(base_model("encoder"), "vera", rank=2, seed=seed).model for seed in (0, 0, 1)]
    first, again, other = (model.base_model.vera_A["default"] for model in models)
    assert torch.equal(first, again) and not torch.equal(first, other)


@pytest.mark.parametrize("method", ["vera", "fourierft"])
def test_the_task_head_has_a_learning_rate_of_its_own(method: str) -> None:
    model, chosen = adapt(base_model("encoder"), method)
    groups = chosen.parameter_groups(model, 0.05)
    assert [group["lr"] for group in groups] == [0.05, 1e-3]
    names = {id(p): n for n, p in model.named_parameters()}
    assert all("classifier" in names[id(p)] for p in groups[1]["params"])
    assert not any("classifier" in names[id(p)] for p in groups[0]["params"])
    assert sum(len(group["params"]) for group in groups) == sum(p.requires_grad for p in model.parameters())
    alone, chosen = adapt(base_model("encoder"), method, head_learning_rate=None)
    assert chosen.parameter_groups(alone, 0.05) is None


def test_fourierft_starts_unchanged_unless_pefts_random_spectrum_is_asked_for() -> None:
    base = logits(base_model("encoder"), "encoder")
    zero, normal = (adapt(base_model("encoder"), "fourierft", init=init).model for init in ("zero", "normal"))
    assert torch.equal(logits(zero, "encoder"), base)
    assert (logits(normal, "encoder") - base).abs().max() > 1e-3


def test_fourierft_adds_the_real_part_of_the_scaled_inverse_transform() -> None:
    adapted = adapt(base_model("encoder"), "fourierft", frequencies=50, scaling=30.0, init="normal")
    layer = next(m for m in adapted.model.modules() if hasattr(m, "fourierft_spectrum"))
    spectrum = torch.zeros(layer.out_features, layer.in_features, dtype=torch.float64)
    rows, columns = layer.indices["default"]
    spectrum[rows, columns] = layer.fourierft_spectrum["default"].detach().double()
    expected = 30.0 * torch.fft.ifft2(spectrum).real
    assert torch.allclose(layer.get_delta_weight("default").double(), expected, atol=1e-6)


@pytest.mark.parametrize("variant", ["miss", "bat", "mini"])
def test_every_miss_variant_starts_unchanged_trains_and_merges(variant: str) -> None:
    options = {"variant": variant, "rank": 8, "mini_rank": 4}
    adapted = adapt(base_model("encoder"), "miss", target_modules="all_linear", **options)
    assert adapted.method.variant() == variant
    assert torch.allclose(logits(adapted.model, "encoder"), logits(base_model("encoder"), "encoder"), atol=1e-5)
    losses = train(adapted, "encoder", 30, 5e-3)
    assert losses[-1] < losses[0] - 0.01
    expected = logits(adapted.model, "encoder")
    assert torch.allclose(logits(adapted.method.merge(adapted.model), "encoder"), expected, atol=1e-4)


@pytest.mark.parametrize("method", ["oft", "hra", "boft"])
def test_orthogonal_methods_keep_the_angles_between_the_neurons(method: str) -> None:
    adapted = Case(method, "encoder").adapted()
    before = base_model("encoder").state_dict()
    train(adapted, "encoder", 20, 5e-3)
    after = adapted.method.merge(adapted.model).state_dict()
    names = [n for n in before if n.endswith("query.weight") or n.endswith("output.dense.weight")]
    for name in names:
        assert not torch.allclose(before[name], after[name], atol=1e-4)
        cosines = [torch.corrcoef(torch.cat([M, -M], 1)) for M in (before[name], after[name])]  # without centring
        assert torch.allclose(*cosines, atol=1e-4)


def test_boft_keeps_all_its_butterfly_factors_without_a_compiler() -> None:
    for factors in (1, 2, 3):
        model, _ = adapt(base_model("encoder"), "boft", block_size=4, factors=factors)
        layers = [m for m in model.modules() if hasattr(m, "boft_R")]
        assert layers and all(len(layer.boft_R["default"]) == factors for layer in layers)
        with torch.no_grad():
            for layer in layers:
                layer.boft_R["default"].normal_()
        R, _ = layers[0].get_delta_weight("default")
        assert torch.allclose(R @ R.T, torch.eye(len(R)), atol=1e-5)
        assert int((R.abs() > 1e-6).sum(1).max()) == min(4 * 2 ** (factors - 1), len(R)) or factors == 1


def test_bofts_block_diagonal_is_pytorchs_with_its_gradient() -> None:
    from peft.tuners.boft.layer import FastBlockDiag

    from kasa_corda.methods._boft import any_device

    any_device()
    blocks = torch.randn(2, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.equal(FastBlockDiag.apply(blocks)[1], torch.block_diag(*blocks[1]))
    assert torch.autograd.gradcheck(FastBlockDiag.apply, blocks)


@pytest.mark.parametrize(
    ("method", "options", "complaint"),
    [
        ("oft", {"block_size": 7}, "block_size=7 doesn't divide the 32 input .* nearest that fits: 8"),
        ("boft", {"block_size": 8, "factors": 4}, "method.factors=4 needs an even"),
        ("hra", {"rank": 3}, "rank=3 must be even"),
        ("miss", {"rank": 5, "variant": "bat"}, "5 x 5 blocks"),
        ("miss", {"rank": 8, "variant": "mini", "mini_rank": 5}, "mini_rank=5 doesn't divide"),
        ("miss", {}, "rank=64 is above the 32 input features"),
        ("fourierft", {"frequencies": 2000}, "use 1024 or less"),
        ("lokr", {"factor": 0}, "factor=0 must be -1"),
        ("loha", {"rank": 40}, "rank=40 is larger than"),
    ],
)
def test_what_does_not_fit_is_refused_with_a_sentence(method: str, options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        adapt(base_model("encoder"), method, **options)
