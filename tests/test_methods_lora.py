"""LoRA's relatives: optimizers, starts by singular values, QR, gradients, activations and quantisation."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from method_cases import base_model, batch, logits, optimizer_of, train
from peft import LoraConfig, LoraGAConfig, get_peft_model
from peft.optimizers import create_lorafa_optimizer, create_loraplus_optimizer
from peft.tuners.lora.loraga import preprocess_loraga
from small_language_model import byte_tokenizer, small_llama
from small_models import small
from torch import Tensor

from kasa_corda.api import Adapted, adapt
from kasa_corda.checkpoint import CheckpointFolder
from kasa_corda.config import TrainerConfig
from kasa_corda.config.run_id import run_id
from kasa_corda.corda.layers import weight_of
from kasa_corda.errors import ConfigError
from kasa_corda.methods import METHODS
from kasa_corda.methods._optimizers import adapters
from kasa_corda.methods.base import AdaptContext, count_parameters
from kasa_corda.models.architecture import match_targets
from kasa_corda.models.empty import empty_model, transformers_config
from kasa_corda.progress import Progress
from kasa_corda.training import Trainer

KINDS = pytest.mark.parametrize("kind", ["encoder", "decoder"])
RANK = 2


def adapted(method: str, kind: str = "decoder", base: Any = None, **options: Any) -> Adapted:
    torch.manual_seed(0)
    calibration = [batch(kind, seed) for seed in range(8)]
    options = {"target_modules": "all_linear", "rank": RANK} | options
    return adapt(base or base_model(kind), method, calibration=calibration, **options)


def weights(kind: str, found: Adapted) -> dict[str, tuple[Tensor, Tensor, Tensor, float]]:
    """Layer -> original weight (out, in), A, B, scale."""
    base = base_model(kind)
    prefix = "base_model.model."
    return {
        name.removeprefix(prefix): (weight_of(base.get_submodule(name.removeprefix(prefix))), A, B, scale)
        for name, A, B, scale in adapters(found.model)
    }


def reloaded(found: Adapted, kind: str, folder: Path) -> Tensor:
    found.method.save(found.model, folder, "small")
    return logits(type(found.method)(found.method.config).load(base_model(kind), folder).eval(), kind)


# counts


ROBERTA = {"hidden_size": 768, "intermediate_size": 3072, "heads": 12, "layers": 12, "vocab_size": 50265}
LLAMA_7B = {"hidden_size": 4096, "intermediate_size": 11008, "heads": 32, "layers": 32, "vocab_size": 32000}


def count(method: str, architecture: str, shape: dict[str, int], targets: str, **options: Any) -> int:
    """Trained parameters without the head, of a model of the real size without weights."""
    config = small(architecture, **shape)
    labels = 2 if architecture == "roberta" else None
    model, head = empty_model(config, labels, "classification" if labels else None)
    chosen = METHODS[method]
    instance = chosen(chosen.Config(name=method, **options))
    names = list(match_targets(config, targets))
    context = AdaptContext(names, head, "SEQ_CLS" if labels else "CAUSAL_LM", 0, 10)
    return count_parameters(instance.adapt(model, context), head)["adapter"]


@pytest.mark.parametrize(
    "method", ["lora", "rslora", "lora_plus", "pissa", "milora", "olora", "lora_ga", "eva", "loftq"]
)
def test_methods_of_loras_architecture_train_as_many_parameters(method):
    assert count(method, "roberta", ROBERTA, "qv", rank=8) == 294_912


@pytest.mark.parametrize(
    ("method", "architecture", "targets", "rank", "published"),
    [
        ("dora", "roberta", "qv", 8, 313_344),
        ("lora", "roberta", "all_linear", 128, 21_233_664),
        ("lora_fa", "roberta", "qv", 8, 24 * 8 * 768),
        ("lora", "llama", "qv", 8, 4_194_304),
        ("milora", "llama", "all_linear", 128, 319_815_680),
        ("dora", "llama", "five", 32, 56_975_360),
    ],
)
def test_counts_equal_the_published_ones(method, architecture, targets, rank, published):
    shape = ROBERTA if architecture == "roberta" else LLAMA_7B
    assert count(method, architecture, shape, targets, rank=rank) == published


# optimizers


@pytest.mark.parametrize("method", ["lora", "dora", "kasa", "corda_ipa", "pissa", "eva", "lora_ga"])
def test_loraplus_gives_the_high_rate_to_b_alone(method):
    model, instance = adapted(method, "encoder", optimizer="loraplus", lr_ratio=10.0)
    groups = instance.parameter_groups(model, 1e-3)
    rate = {id(p): group["lr"] for group in groups for p in group["params"]}
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert {id(p) for p in trained.values()} == rate.keys()
    for name, parameter in trained.items():
        assert rate[id(parameter)] == pytest.approx(1e-2 if ".lora_B." in name else 1e-3), name


def test_pefts_loraplus_groups_would_give_it_to_sigma_and_the_heads_biases_too():
    model, _ = adapted("kasa", "encoder")
    optimizer = create_loraplus_optimizer(model, torch.optim.AdamW, lr=1e-3, loraplus_lr_ratio=10.0)
    rate = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    fast = {name for name, p in model.named_parameters() if rate.get(id(p)) == 1e-2}
    assert any("lora_diag" in name for name in fast) and any("classifier" in name for name in fast)


def test_loraplus_on_plain_lora_is_pefts():
    ours = adapted("lora_plus", lr_ratio=8.0)
    theirs = copy.deepcopy(ours)
    train(ours, "decoder", 3, 1e-3)
    settings = {"betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0}
    _run(theirs, create_loraplus_optimizer(theirs.model, torch.optim.AdamW, lr=1e-3, loraplus_lr_ratio=8.0, **settings))
    _same(ours, theirs)


def test_lorafa_is_adamw_on_b_with_a_frozen():
    found = adapted("lora_fa", "encoder")
    before = {name: (A.clone(), B.clone()) for name, A, B, _ in adapters(found.model)}
    train(found, "encoder", 1, 1e-3)
    for name, A, B, _ in adapters(found.model):
        assert torch.equal(A, before[name][0]) and not A.requires_grad
        step = (B - before[name][1]).detach().abs()
        assert step.max() == pytest.approx(1e-3, rel=0.05)  # Adam's first step: the learning rate, whatever the size


def test_lorafas_rescaled_form_is_pefts():
    ours = adapted("lora_fa", optimizer="lorafa_peft")
    theirs = adapted("lora")
    assert type(optimizer_of(ours, 1e-3)).__module__.startswith("peft.optimizers")
    reference = create_lorafa_optimizer(theirs.model, r=RANK, lora_alpha=16, lr=1e-3)
    for group in reference.param_groups:
        group["eps"] = 1e-8
    train(ours, "decoder", 3, 1e-3)
    _run(theirs, reference)
    _same(ours, theirs)
    plain = adapted("lora_fa")
    train(plain, "decoder", 3, 1e-3)
    with pytest.raises(AssertionError):
        _same(ours, plain)


def _run(found: Adapted, optimizer: torch.optim.Optimizer) -> None:
    found.model.train()
    for _ in range(3):
        found.model(**batch("decoder")).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def _same(one: Adapted, other: Adapted) -> None:
    pairs = zip(adapters(one.model), adapters(other.model), strict=True)
    for (_, A, B, _), (_, A2, B2, _) in pairs:
        torch.testing.assert_close(A, A2)
        torch.testing.assert_close(B, B2)


def test_rescaled_gradients_are_refused_where_the_update_is_not_b_a():
    for method in ("dora", "kasa"):
        with pytest.raises(ConfigError, match=r"use method\.optimizer=lorafa"):
            adapted(method, optimizer="lorafa_peft")


def test_the_optimizer_is_named_where_it_is_not_the_methods_own():
    def variant(method: str, **options: Any) -> str | None:
        return METHODS[method](METHODS[method].Config(name=method, **options)).variant()

    assert variant("lora") is None and variant("lora_plus") is None and variant("lora_fa") is None
    assert variant("lora", optimizer="loraplus") == "loraplus"
    assert variant("lora_fa", optimizer="lorafa_peft") == "lorafa_peft"
    assert variant("lora_ga", optimizer="lorafa") == "authors, lorafa"
    assert variant("pissa", niter=4) == "niter_4"
    assert variant("kasa", optimizer="loraplus") == "paper, loraplus"


@pytest.mark.parametrize("method", ["kasa", "corda_kpa", "pissa", "olora", "lora_ga", "eva", "dora", "rslora"])
def test_lorafa_freezes_a_on_every_method_of_loras_shape(method, tmp_path):
    found = adapted(method, "encoder", optimizer="lorafa")
    before = {name: A.clone() for name, A, _, _ in adapters(found.model)}
    losses = train(found, "encoder", 40, 5e-3)
    assert losses[-1] < losses[0]
    assert all(torch.equal(A, before[name]) for name, A, _, _ in adapters(found.model))
    expected = logits(found.model, "encoder")
    assert torch.allclose(reloaded(found, "encoder", tmp_path), expected, atol=1e-5)


def test_run_ids_are_what_they_were_before_there_were_optimizers():
    config = {"method": {"name": "lora", "rank": 8}, "model": {}}
    plain = {"method": {**config["method"], "optimizer": "adamw", "lr_ratio": 16.0}, "model": {}}
    other = {"method": {**config["method"], "optimizer": "loraplus", "lr_ratio": 16.0}, "model": {}}
    assert run_id(plain) == run_id(config) != run_id(other)


def trainer(folder: Path, method: str, **options: Any) -> Trainer:
    chosen = METHODS[method]
    instance = chosen(chosen.Config(name=method, rank=RANK, **options))
    base = small_llama()
    targets = [name for name, _ in base.named_modules() if name.endswith(("q_proj", "v_proj"))]
    torch.manual_seed(0)
    model = instance.adapt(base, AdaptContext(targets, [], "CAUSAL_LM", 0, 6))
    ids = [[2 + (row * 7 + i) % 200 for i in range(12)] for row in range(4)]
    encoded = [{"input_ids": row, "attention_mask": [1] * 12, "labels": row} for row in ids]
    return Trainer(
        TrainerConfig(learning_rate=1e-2, batch_size=4, max_steps=6, warmup=0, log_every=1),
        instance,
        model,
        encoded,
        byte_tokenizer(),
        accelerator=Accelerator(cpu=True),
        head=[],
        seed=0,
        metric="m",
        evaluate=lambda: {"m": 0.0},
        log=lambda event: None,
        checkpoints=CheckpointFolder(folder),
        progress=Progress(show=False),
    )


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("lora", {}),
        ("lora_plus", {}),
        ("lora_fa", {}),
        ("lora_fa", {"optimizer": "lorafa_peft"}),
        ("pissa", {"optimizer": "loraplus"}),
    ],
)
def test_a_resumed_run_goes_on_as_if_it_had_not_stopped(method, options, tmp_path):
    whole = trainer(tmp_path / "whole", method, **options)
    whole.fit(resume=False)
    first = trainer(tmp_path / "parts", method, **options)
    for step in range(3):
        first._step(first._batch(step))
        first.fitted.step += 1
    first._save()
    second = trainer(tmp_path / "parts", method, **options)
    second.fit(resume=True)
    states = [t.method.trained_state(t.bare) for t in (whole, second)]
    assert states[0].keys() == states[1].keys()
    for name, tensor in states[0].items():
        torch.testing.assert_close(states[1][name], tensor, rtol=1e-6, atol=1e-8)
    assert second.optimizer.state_dict()["state"].keys() == whole.optimizer.state_dict()["state"].keys()


# starts from the weights


@pytest.mark.parametrize(("method", "part"), [("pissa", slice(None, RANK)), ("milora", slice(-RANK, None))])
@KINDS
def test_spectral_starts_are_the_svds_components_shared_evenly(method, part, kind):
    for W, A, B, scale in weights(kind, adapted(method, kind)).values():
        U, S, Vt = torch.linalg.svd(W.double(), full_matrices=False)
        wanted = (U[:, part] * S[part]) @ Vt[part]
        torch.testing.assert_close(scale * (B @ A).double(), wanted, rtol=1e-4, atol=1e-6)
        root = (S[part] / scale).sqrt()
        torch.testing.assert_close(A.norm(dim=1).double(), root, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(B.norm(dim=0).double(), root, rtol=1e-4, atol=1e-6)
        assert scale == (8.0 if method == "pissa" else 1.0)


def pefts(init: str, **options: Any) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
    """Layer -> A, B and residual weight, as PEFT makes them."""
    base = base_model("decoder")
    targets = [n for n, m in base.named_modules() if isinstance(m, torch.nn.Linear) and n != "lm_head"]
    config = LoraConfig(r=RANK, lora_alpha=16, init_lora_weights=init, target_modules=targets, **options)
    model = get_peft_model(base, config)
    return {name: (A, B, model.get_submodule(name).get_base_layer().weight) for name, A, B, _ in adapters(model)}


@pytest.mark.parametrize("method", ["pissa", "olora"])
def test_exact_starts_are_pefts(method):
    found = adapted(method)
    theirs = pefts(method)
    for name, A, B, _ in adapters(found.model):
        A2, B2, residual = theirs[name]
        signs = (A * A2).sum(1).sign()  # of singular vectors, no matter which
        torch.testing.assert_close(A, A2 * signs[:, None], rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(B, B2 * signs, rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(
            found.model.get_submodule(name).get_base_layer().weight, residual, rtol=1e-4, atol=1e-5
        )


def test_the_fast_svd_nears_the_exact_one_with_its_iterations():
    from kasa_corda.starts.factors import randomised

    torch.manual_seed(0)
    U, V = (torch.linalg.qr(torch.randn(n, 20))[0] for n in (40, 30))
    S = torch.tensor([0.8**i for i in range(20)])
    W = (U * S) @ V.T
    exact = (U[:, :4] * S[:4]) @ V[:, :4].T
    apart = []
    for iterations in (0, 1, 16):
        A, B = randomised(W, 4, iterations, 2.0, seed=0)
        apart.append((2.0 * B @ A - exact).norm() / exact.norm())
    assert apart[0] > apart[1] > apart[2] and apart[2] < 1e-3
    state = torch.get_rng_state()
    again = randomised(W, 4, 16, 2.0, seed=0)
    assert torch.equal(again[0], A) and torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("pissa", {"niter": 1}),
        ("pissa", {"optimizer": "lorafa"}),
        ("lora_ga", {"variant": "peft"}),
        ("lora_ga", {"rslora": False}),
        ("eva", {"rho": 1.0}),
        ("lora", {"optimizer": "lorafa_peft"}),
    ],
)
@KINDS
def test_reloading_gives_the_trained_model(method, options, kind, tmp_path):
    found = adapted(method, kind, **options)
    train(found, kind, 3, 5e-3)
    expected = logits(found.model, kind)
    torch.manual_seed(77)
    assert torch.allclose(reloaded(found, kind, tmp_path), expected, atol=1e-5)


def test_pefts_randomised_pissa_reloads_wrongly_which_is_why_ours_is_converted(tmp_path):
    from peft import PeftModel

    torch.manual_seed(0)
    targets = [n for n, m in base_model("decoder").named_modules() if n.endswith("_proj")]
    config = LoraConfig(r=RANK, init_lora_weights="pissa_niter_0", target_modules=targets)
    model = get_peft_model(base_model("decoder"), config).eval()
    model.save_pretrained(tmp_path)
    base = base_model("decoder")
    torch.manual_seed(1)
    again = PeftModel.from_pretrained(base, tmp_path).eval()
    assert (logits(again, "decoder") - logits(model, "decoder")).abs().max() > 1e-3


def test_starts_come_from_the_cache_on_disk_the_second_time(tmp_path, monkeypatch):
    from kasa_corda.methods._converted import spectral_start
    from kasa_corda.spectral import cached

    monkeypatch.setenv("KASA_CORDA_CACHE", str(tmp_path))
    torch.manual_seed(0)
    W = {"layer": torch.randn(256, 300)}
    first = {largest: spectral_start(W, 4, 2.0, largest=largest) for largest in (True, False)}
    assert len(list(tmp_path.rglob("*.safetensors"))) == 2
    monkeypatch.setattr(cached, "subspaces", lambda matrices, *_: pytest.fail("computed again") if matrices else None)
    for largest, start in first.items():
        again = spectral_start(W, 4, 2.0, largest=largest)
        assert all(torch.equal(one, two) for one, two in zip(start["layer"], again["layer"], strict=True))


@pytest.mark.parametrize("method", ["pissa", "milora", "olora", "lora_ga", "eva", "dora"])
def test_gpt2s_transposed_layers_start_unchanged(method):
    from transformers import AutoModelForCausalLM

    config = transformers_config(small("gpt2"))
    torch.manual_seed(5)
    base = AutoModelForCausalLM.from_config(config).eval()
    expected = logits(base, "decoder")
    assert torch.allclose(logits(adapted(method, base=base).model, "decoder"), expected, atol=1e-5)


def test_packed_weights_are_refused_where_they_would_be_replaced():
    method = METHODS["pissa"](METHODS["pissa"].Config(name="pissa"))
    layer = torch.nn.Linear(4, 4)
    layer.weight = torch.nn.Parameter(torch.zeros(4, 4, dtype=torch.int8), requires_grad=False)
    with pytest.raises(ConfigError, match=r"stores torch\.int8: load the base unquantised, or use method=lora"):
        method.check_weight("x", layer)


# LoRA-GA


def gradients(kind: str) -> dict[str, Tensor]:
    """Mean gradient (out, in) of every linear layer over the calibration batches, by autograd alone."""
    model = base_model(kind).train()
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    for seed in range(8):
        (model(**batch(kind, seed)).loss / 8).backward()
    return {name: m.weight.grad for name, m in model.named_modules() if isinstance(m, torch.nn.Linear)}


@pytest.mark.parametrize("variant", ["authors", "peft"])
def test_lora_ga_is_its_definition(variant):
    found = gradients("decoder")
    gamma = 9.0
    for name, (_, A, B, scale) in weights("decoder", adapted("lora_ga", variant=variant, gamma=gamma)).items():
        assert scale == pytest.approx(16 / math.sqrt(RANK))
        U, S, Vt = torch.linalg.svd(found[name].double(), full_matrices=False)
        size = len(U) ** 0.25 / gamma**0.5
        wanted_A, wanted_B = Vt[:RANK], U[:, RANK : 2 * RANK] * size
        if variant == "authors":
            wanted_A = wanted_A * size
        else:
            wanted_B = wanted_B * S[RANK : 2 * RANK]
        signs = (A.double() * wanted_A).sum(1).sign(), (B.double() * wanted_B).sum(0).sign()
        torch.testing.assert_close(A.double(), wanted_A * signs[0][:, None], rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(B.double(), wanted_B * signs[1], rtol=1e-3, atol=1e-4)


def test_the_variant_peft_is_pefts_lora_ga_and_the_authors_is_another():
    base = base_model("decoder")
    targets = [n for n, _ in base.named_modules() if n.endswith("_proj")]
    config = LoraConfig(
        r=RANK,
        lora_alpha=16,
        use_rslora=True,
        init_lora_weights="lora_ga",
        lora_ga_config=LoraGAConfig(),
        target_modules=targets,
    )

    def step() -> None:
        for seed in range(8):
            base(**batch("decoder", seed)).loss.backward()

    torch.manual_seed(0)
    preprocess_loraga(base, config, step)
    theirs = {name: (A, B) for name, A, B, _ in adapters(get_peft_model(base, config))}
    ours, authors = (
        {name: (A, B) for name, A, B, _ in adapters(adapted("lora_ga", variant=variant).model)}
        for variant in ("peft", "authors")
    )
    for name, (A, B) in theirs.items():
        torch.testing.assert_close(ours[name][0].abs(), A.abs(), rtol=1e-2, atol=1e-3)
        torch.testing.assert_close(ours[name][1].abs(), B.abs(), rtol=1e-2, atol=0.03 * B.abs().max().item())
        assert authors[name][1].norm() > 10 * B.norm()  # without the gradient's singular values, which are small


def test_the_gradient_pass_leaves_the_model_as_it_was():
    from kasa_corda.starts.gradients import mean_gradients, parts

    model = base_model("decoder")
    before = copy.deepcopy(model.state_dict())
    layers = {n: m for n, m in model.named_modules() if n.endswith("_proj")}
    batches = [batch("decoder", seed) for seed in range(2)]
    whole = mean_gradients(model, layers, batches, seed=0)
    assert not model.training and all(p.requires_grad and p.grad is None for p in model.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    split = parts(layers, at_once=2000)
    assert len(split) > 2 and [name for names in split for name in names] == list(layers)
    for names in split:
        for name, G in mean_gradients(model, {n: layers[n] for n in names}, batches, seed=0).items():
            torch.testing.assert_close(G, whole[name])


def test_lora_ga_needs_twice_the_rank():
    with pytest.raises(ConfigError, match=r"use method\.rank=16 or less"):
        adapted("lora_ga", rank=17)


# EVA


def inputs_of_layers(kind: str) -> dict[str, Tensor]:
    """Inputs (tokens, in) of every linear layer over the calibration batches, padding left out."""
    model = base_model(kind)
    found: dict[str, list[Tensor]] = {}
    mask: Tensor | None = None

    def hook(name: str) -> Any:
        return lambda _, args: found.setdefault(name, []).append(args[0][mask])

    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and "lm_head" not in name and "classifier" not in name:
            module.register_forward_pre_hook(hook(name))
    with torch.no_grad():
        for index in range(32):
            inputs = batch(kind, index % 8)
            mask = inputs["attention_mask"].bool()
            model(**inputs)
    return {name: torch.cat(rows).double() for name, rows in found.items()}


@pytest.mark.parametrize("centred", [True, False])
@KINDS
def test_eva_starts_along_the_inputs_principal_directions(kind, centred):
    found = adapted("eva", kind, rho=1.0, centred=centred)
    rows = inputs_of_layers(kind)
    for name, (_, A, B, _) in weights(kind, found).items():
        X = rows[name] - rows[name].mean(0) if centred else rows[name]
        Vt = torch.linalg.svd(X, full_matrices=False)[2][:RANK]
        assert A.shape[0] == RANK and not B.any()
        torch.testing.assert_close((A.double() * Vt).sum(1).abs(), torch.ones(RANK).double(), rtol=1e-3, atol=1e-3)


def test_eva_shares_out_the_same_sum_of_ranks_at_one_scale():
    found = adapted("eva", rho=3.0)
    rows = found.method.report()["layers"]
    assert sum(row["rank"] for row in rows) == RANK * len(rows)
    assert len({row["rank"] for row in rows}) > 1 and max(row["rank"] for row in rows) <= 3 * RANK
    assert {scale for *_, scale in adapters(found.model)} == {16 / RANK}
    held = {name: A.shape[0] for name, (_, A, _, _) in weights("decoder", found).items()}
    assert held == {row["layer"]: row["rank"] for row in rows if row["rank"]}


def test_the_strongest_components_of_all_layers_are_kept():
    from kasa_corda.starts.activations import ranks

    assert ranks({"a": [0.5, 0.3], "b": [0.5, 0.3], "c": [0.2, 0.1]}, 3) == {"a": 2, "b": 1, "c": 0}


@pytest.mark.parametrize("method", ["eva", "lora_ga"])
def test_a_second_preparation_reads_what_the_first_one_found(method, tmp_path, monkeypatch):
    from kasa_corda.starts import activations, gradients

    def prepared(name: str = method) -> Any:
        base = base_model("decoder")
        targets = [n for n, _ in base.named_modules() if n.endswith("_proj")]
        context = AdaptContext(targets, [], "CAUSAL_LM", 0, 5, folder=tmp_path / "preparation")
        context = replace(context, batches=lambda count, size: iter([batch("decoder", i) for i in range(count)]))
        instance = METHODS[name](METHODS[name].Config(name=name, rank=RANK))
        instance.prepare(base, context)
        return logits(instance.adapt(base, context), "decoder"), [A for _, A, _, _ in adapters(base)]

    first = prepared()
    assert list((tmp_path / "preparation").glob("*.safetensors"))
    for module, function in ((activations, "directions"), (gradients, "mean_gradients")):
        monkeypatch.setattr(module, function, lambda *_, **__: pytest.fail("found again"))
    again = prepared()
    assert torch.equal(first[0], again[0])
    assert all(torch.equal(one, two) for one, two in zip(first[1], again[1], strict=True))


# LoftQ


def test_loftq_says_before_loading_that_bitsandbytes_is_missing(monkeypatch):
    from kasa_corda.methods import loftq

    monkeypatch.setattr(loftq, "find_spec", lambda name: None)
    method = loftq.Loftq(loftq.LoftqConfig(name="loftq"))
    with pytest.raises(ConfigError, match="pip install bitsandbytes, or use method=pissa"):
        method.check({"layer": (16, 16)})


@pytest.mark.parametrize("shape", [(32, 32), (48, 32), (5, 7), (64, 96)])
def test_four_bits_are_nf4_whatever_the_width(shape):
    pytest.importorskip("bitsandbytes")
    from bitsandbytes.functional import get_4bit_type

    from kasa_corda.starts.quantised import quantised, restored

    torch.manual_seed(0)
    W = torch.randn(shape)
    blocks = torch.nn.functional.pad(W.flatten(), (0, -W.numel() % 64)).view(-1, 64)
    largest = blocks.abs().amax(1, keepdim=True)
    code = get_4bit_type("nf4", device="cpu")
    nearest = code[((blocks / largest)[..., None] - code).abs().argmin(-1)] * largest
    assert torch.equal(restored(quantised(W, 4), shape, 4), nearest.flatten()[: W.numel()].view(shape))


@pytest.mark.parametrize(("bits", "steps", "alpha"), [(4, 1, None), (4, 5, None), (4, 1, 16.0), (8, 1, None)])
def test_loftq_makes_up_for_quantisation(bits, steps, alpha, tmp_path):
    pytest.importorskip("bitsandbytes")
    found = adapted("loftq", bits=bits, steps=steps, alpha=alpha, rank=8)
    rows = found.method.report()["layers"]
    assert all(0 < row["lost_with_adapter"] < 0.9 * row["lost"] for row in rows)
    assert all(row["lost_with_adapter"] < (0.09 if bits == 4 else 0.006) for row in rows)
    for name, (W, A, B, scale) in weights("decoder", found).items():
        Q = found.model.get_submodule(f"base_model.model.{name}").get_base_layer().weight
        rest = W - Q
        if steps == 1:
            U, S, Vt = torch.linalg.svd(rest.double(), full_matrices=False)
            torch.testing.assert_close(scale * (B @ A).double(), (U[:, :8] * S[:8]) @ Vt[:8], rtol=1e-3, atol=1e-6)
    train(found, "decoder", 3, 5e-3)
    expected = logits(found.model, "decoder")
    assert torch.equal(reloaded(found, "decoder", tmp_path), expected)
    with pytest.raises(ConfigError, match="export it merged"):
        found.method.save_as_lora(found.model, tmp_path, "small")
    assert torch.allclose(logits(found.method.merge(found.model), "decoder"), expected, atol=1e-4)
