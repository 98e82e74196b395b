"""Our own methods around linear layers: LoRA-XS, DyLoRA, TriLoRA, SSL and SSB, each against its paper's equation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import compose
from packed import Packed
from small_models import ARCHITECTURES, ENCODERS, small
from torch import nn
from transformers.pytorch_utils import Conv1D

from kasa_corda.api import adapt
from kasa_corda.config.validate import typed
from kasa_corda.errors import ConfigError
from kasa_corda.methods import METHODS
from kasa_corda.methods._linear import LinearWrapper
from kasa_corda.methods.dylora import sampled_rank
from kasa_corda.methods.unavailable import UNAVAILABLE
from kasa_corda.models.empty import transformers_config
from kasa_corda.plan import counted

LAYERS = ("square", "wide", "tall", "conv")
METHODS_HERE = ("lora_xs", "dylora", "trilora", "ssl", "ssb")
LOW_RANK = ("lora_xs", "dylora", "trilora")
R, ALPHA = 3, 12.0


class Net(nn.Module):
    """Linear layers of every shape: W (out, in) with out = in, out < in (no bias), out > in, and GPT-2's Conv1D."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.square, self.wide, self.tall = nn.Linear(10, 10), nn.Linear(14, 6, bias=False), nn.Linear(6, 14)
        self.conv = Conv1D(15, 5)
        with torch.no_grad():
            self.conv.weight.normal_()
            self.conv.bias.normal_()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def adapted(method: str, net: nn.Module | None = None, **options: Any) -> tuple[Any, Any]:
    """The net with every layer adapted, and trained parameters drawn at random as if it had been trained."""
    options = (
        {"rank": R} | ({} if method == "trilora" else {"alpha": ALPHA}) | options if method in LOW_RANK else options
    )
    model, chosen = adapt(net or Net(), method, target_modules=LAYERS, seed=0, **options)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return model.eval(), chosen


def plain(net: nn.Module, name: str) -> tuple[np.ndarray, np.ndarray]:
    """W (out, in) and b of a layer in float64."""
    layer: Any = net.get_submodule(name)
    W = layer.weight.detach().double().numpy()
    W = W.T if isinstance(layer, Conv1D) else W
    return W, np.zeros(W.shape[0]) if layer.bias is None else layer.bias.detach().double().numpy()


def numbers(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().double().numpy()


def lora_xs_equation(W: np.ndarray, b: np.ndarray, x: np.ndarray, layer: Any) -> np.ndarray:
    """h = W x + (alpha / r) U_r R S_r V_r^T x. The signs of singular vectors are a convention: those of B are taken."""
    U, S, Vt = np.linalg.svd(W)
    signs = np.sign((U[:, :R] * numbers(layer.B)).sum(0))
    A, B = (signs * S[:R])[:, None] * Vt[:R], U[:, :R] * signs
    return W @ x + b[:, None] + ALPHA / R * B @ numbers(layer.R) @ A @ x


def trilora_equation(W: np.ndarray, b: np.ndarray, x: np.ndarray, layer: Any) -> np.ndarray:
    """h = W x + B diag(e) A x."""
    return W @ x + b[:, None] + numbers(layer.B) @ np.diag(numbers(layer.e)) @ numbers(layer.A) @ x


def dylora_equation(W: np.ndarray, b: np.ndarray, x: np.ndarray, layer: Any, rank: int = R) -> np.ndarray:
    """h = W x + (alpha / b) B_(:, 1..b) A_(1..b, :) x."""
    return W @ x + b[:, None] + ALPHA / rank * numbers(layer.B)[:, :rank] @ numbers(layer.A)[:rank] @ x


def ssl_equation(W: np.ndarray, b: np.ndarray, x: np.ndarray, layer: Any) -> np.ndarray:
    """h = W diag(v) x."""
    return W @ np.diag(numbers(layer.v)) @ x + b[:, None]


def ssb_equation(W: np.ndarray, b: np.ndarray, x: np.ndarray, layer: Any) -> np.ndarray:
    """h = diag(u) W diag(v) x."""
    return np.diag(numbers(layer.u)) @ W @ np.diag(numbers(layer.v)) @ x + b[:, None]


EQUATIONS = {
    "lora_xs": lora_xs_equation,
    "trilora": trilora_equation,
    "dylora": dylora_equation,
    "ssl": ssl_equation,
    "ssb": ssb_equation,
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("method", METHODS_HERE)
class TestEquations:
    def test_the_layer_computes_the_papers_equation(self, method: str, name: str) -> None:
        model, _ = adapted(method)
        layer = model.get_submodule(name)
        W, b = plain(Net(), name)
        x = np.random.default_rng(0).normal(size=(W.shape[1], 7))
        found = numbers(layer(torch.tensor(x.T, dtype=torch.float32))).T
        expected = EQUATIONS[method](W, b, x, layer)
        assert np.abs(expected - (W @ x + b[:, None])).max() > 0.1, "the change is too small to be seen"
        np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-4)

    def test_the_merged_layer_computes_it_too(self, method: str, name: str) -> None:
        model, chosen = adapted(method)
        x = torch.randn(7, plain(Net(), name)[0].shape[1])
        expected = model.get_submodule(name)(x)
        merged = chosen.merge(model)
        assert type(merged.get_submodule(name)) is type(Net().get_submodule(name))
        torch.testing.assert_close(merged.get_submodule(name)(x), expected, rtol=1e-4, atol=1e-4)


ROBERTA_XS = "[query,value,attention.output.dense,output.dense]"


@pytest.mark.parametrize(
    ("model", "method", "options", "count"),
    [
        ("roberta_large", "lora_xs", ["rank=25", f"target_modules={ROBERTA_XS}"], 60_000),  # published: 0.06M
        ("roberta_base", "lora_xs", ["rank=4", f"target_modules={ROBERTA_XS}"], 768),
        ("llama2_7b", "lora_xs", ["rank=64", "target_modules=all_linear"], 917_504),
        ("roberta_base", "trilora", ["rank=8"], 295_104),
        ("roberta_base", "trilora", ["rank=8", "target_modules=all_linear"], 1_327_680),
        ("roberta_large", "trilora", ["rank=8"], 786_816),
        ("deberta_v3_base", "trilora", ["rank=8"], 295_104),  # KaSA's count
        ("roberta_base", "dylora", ["rank=8"], 294_912),  # LoRA's count
        ("roberta_large", "dylora", ["rank=8"], 786_432),
        ("roberta_base", "ssl", [], 82_944),
        ("roberta_base", "ssb", [], 165_888),
        ("roberta_large", "ssl", [], 221_184),
        ("roberta_large", "ssb", [], 442_368),
        ("deberta_v3_base", "ssb", [], 165_888),
        ("roberta_base", "ssl", ["target_modules=qv"], 18_432),
        ("roberta_base", "ssb", ["target_modules=qv"], 36_864),
    ],
)
def test_trainable_counts_on_the_real_shapes(model: str, method: str, options: list[str], count: int) -> None:
    task = "gsm8k" if model == "llama2_7b" else "glue/sst2"
    overrides = [f"method.{option}" for option in options]
    config = typed(compose(f"model={model}", f"method={method}", f"task={task}", *overrides))
    assert counted(config, 0)[1]["adapter"] == count


class TestLoraXs:
    @pytest.mark.parametrize("name", LAYERS)
    def test_A_carries_the_singular_values_and_B_is_orthonormal(self, name: str) -> None:
        model, _ = adapted("lora_xs")
        layer = model.get_submodule(name)
        S = np.linalg.svd(plain(Net(), name)[0], compute_uv=False)[:R]
        np.testing.assert_allclose(np.linalg.norm(numbers(layer.A), axis=1), S, rtol=1e-5)
        np.testing.assert_allclose(numbers(layer.B).T @ numbers(layer.B), np.eye(R), atol=1e-5)

    def test_only_R_is_trained_and_it_starts_within_1e_5_of_zero(self) -> None:
        model, _ = adapt(Net(), "lora_xs", target_modules=LAYERS, rank=4)
        trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
        assert set(trained) == {f"{name}.R" for name in LAYERS}
        drawn = torch.cat([p.flatten() for p in trained.values()])
        assert 0.5e-5 < drawn.std() < 2e-5

    def test_loading_needs_no_decomposition(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        model, chosen = adapted("lora_xs")
        chosen.save(model, tmp_path, "net")
        monkeypatch.setattr("torch.linalg.svd", forbidden)
        monkeypatch.setattr("torch.linalg.eigh", forbidden)
        loaded = METHODS["lora_xs"](chosen.config).load(Net(), tmp_path)
        x = torch.randn(4, 10)
        assert torch.equal(loaded.get_submodule("square")(x), model.get_submodule("square")(x))

    def test_subspaces_of_large_layers_come_from_the_cache(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("KASA_CORDA_CACHE", str(tmp_path))
        torch.manual_seed(0)
        state = nn.Linear(260, 300).state_dict()
        factors = []
        for _ in range(2):
            net = nn.ModuleDict({"layer": nn.Linear(260, 300)})
            net["layer"].load_state_dict(state)
            layer: Any = adapt(net, "lora_xs", target_modules=["layer"], rank=5).model.get_submodule("layer")
            factors.append((layer.A, layer.B))
            monkeypatch.setattr(
                "kasa_corda.spectral.cached.subspaces", lambda found, *_: forbidden() if found else None
            )
        assert list((tmp_path / "spectral").rglob("*.safetensors"))
        assert all(torch.equal(first, second) for first, second in zip(*factors, strict=True))

    def test_B_stays_orthonormal_where_W_has_a_lower_rank_than_r(self) -> None:
        for shape in ((20, 9), (9, 20)):
            net = nn.ModuleDict({"layer": nn.Linear(*shape)})
            with torch.no_grad():
                net["layer"].weight[:, 2:] = 0
            layer: Any = adapt(net, "lora_xs", target_modules=["layer"], rank=4).model.get_submodule("layer")
            np.testing.assert_allclose(numbers(layer.B).T @ numbers(layer.B), np.eye(4), atol=1e-5)
            np.testing.assert_allclose(numbers(layer.B) @ numbers(layer.A), numbers(layer.base.weight), atol=1e-5)

    def test_it_refuses_to_truncate_nothing(self) -> None:
        with pytest.raises(ConfigError, match=r"rank=5 truncates nothing of layer conv \(15 x 5\); use method.rank=4"):
            adapt(Net(), "lora_xs", target_modules=LAYERS, rank=5)


def forbidden(*_: Any, **__: Any) -> None:
    raise AssertionError("a decomposition was computed")


class TestDyLora:
    def test_one_run_is_evaluated_at_any_rank(self) -> None:
        model, chosen = adapted("dylora")
        W, b = plain(Net(), "tall")
        x = np.random.default_rng(0).normal(size=(6, 4))
        for rank in (1, 2, 3):
            chosen.use_rank(model, rank)
            layer = model.get_submodule("tall")
            found = numbers(layer(torch.tensor(x.T, dtype=torch.float32))).T
            np.testing.assert_allclose(found, dylora_equation(W, b, x, layer, rank), rtol=1e-4, atol=1e-4)

    def test_a_stored_run_is_evaluated_at_any_rank(self, run_py: Any) -> None:
        from kasa_corda import load_run

        done = run_py("method=dylora", "method.rank=4", "trainer.max_steps=8", "trainer.learning_rate=3e-2")
        assert done.returncode == 0, done.stderr
        (folder,) = (file.parent for file in run_py.folder.glob("runs/**/result.json"))
        run = load_run(folder)
        texts, found = ["good film", "a dull plot"], []
        for rank in (1, 2, 4):
            run.method.use_rank(run.model, rank)  # type: ignore[attr-defined]
            found.append([answer["probability"] for answer in run.predict(texts)])
        assert found[0] != found[1] != found[2]

    def test_the_config_can_say_the_rank_too(self) -> None:
        model, chosen = adapted("dylora")
        chosen.use_rank(model, 2)
        at_two, _ = adapted("dylora", rank_at_evaluation=2)
        x = torch.randn(4, 10)
        assert torch.equal(model.get_submodule("square")(x), at_two.get_submodule("square")(x))

    def test_a_rank_that_was_not_trained_is_refused(self) -> None:
        model, chosen = adapted("dylora")
        with pytest.raises(ConfigError, match="rank=4 is not among the trained ranks 1 to 3"):
            chosen.use_rank(model, 4)
        with pytest.raises(ConfigError, match="rank_at_evaluation=4 is not among"):
            adapt(Net(), "dylora", target_modules=LAYERS, rank=3, rank_at_evaluation=4)

    def test_training_uses_the_ranks_drawn_from_seed_and_step_alone(self) -> None:
        model, chosen = adapted("dylora")
        W, b = plain(Net(), "square")
        x = np.random.default_rng(0).normal(size=(10, 4))
        for step in range(6):
            torch.manual_seed(step)  # must not matter
            chosen.before_step(model, step)
            layer = model.train().get_submodule("square")
            found = numbers(layer(torch.tensor(x.T, dtype=torch.float32))).T
            expected = dylora_equation(W, b, x, layer, sampled_rank(R, 0, step))
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)

    def test_every_rank_is_drawn_about_equally_often(self) -> None:
        drawn = [sampled_rank(4, 0, step) for step in range(2000)]
        assert all(450 < drawn.count(rank) < 550 for rank in (1, 2, 3, 4))
        assert drawn[:50] != [sampled_rank(4, 1, step) for step in range(50)]

    def test_evaluation_between_steps_uses_the_evaluation_rank(self) -> None:
        model, chosen = adapted("dylora")
        x = torch.randn(4, 10)
        before = model.get_submodule("square")(x)
        step = next(s for s in range(20) if sampled_rank(R, 0, s) == 1)
        chosen.before_step(model, step)
        assert not torch.allclose(model.train().get_submodule("square")(x), before)
        assert torch.equal(model.eval().get_submodule("square")(x), before)

    @pytest.mark.parametrize("frozen", [False, True])
    def test_which_components_get_gradients(self, frozen: bool) -> None:
        model, chosen = adapted("dylora", frozen=frozen)
        step = next(s for s in range(20) if sampled_rank(R, 0, s) == 2)
        chosen.before_step(model, step)
        layer = model.train().get_submodule("square")
        layer(torch.randn(4, 10)).pow(2).sum().backward()
        moved = [bool(layer.A.grad[i].any()) for i in range(R)]
        assert moved == [bool(layer.B.grad[:, i].any()) for i in range(R)] == [not frozen, True, False]


class TestScaling:
    def test_ssl_scales_the_inputs_of_W_although_its_name_says_left(self) -> None:
        model, _ = adapted("ssl")
        layer = model.get_submodule("wide")
        assert layer.v.shape == (14,)
        with torch.no_grad():
            layer.v.zero_()[3] = 2.0
        x = torch.randn(5, 14)
        torch.testing.assert_close(layer(x), 2 * x[:, 3:4] * Net().wide.weight[:, 3])

    @pytest.mark.parametrize("method", ["ssl", "ssb"])
    def test_small_steps_add_up_in_half_precision(self, method: str) -> None:
        net = nn.ModuleDict({"layer": nn.Linear(64, 64)}).to(torch.bfloat16)
        model, _ = adapt(net, method, target_modules=["layer"])
        layer: Any = model.get_submodule("layer")
        x = torch.randn(512, 64, dtype=torch.bfloat16)
        start = layer(x)
        with torch.no_grad():
            for parameter in (p for p in model.parameters() if p.requires_grad):
                for _ in range(20):
                    parameter.add_(1e-3)  # in bfloat16, 1.001 is 1
        assert layer(x).dtype is torch.bfloat16
        assert not torch.equal(layer(x), start)

    @pytest.mark.parametrize("method", ["ssl", "ssb"])
    def test_it_has_no_lora_form(self, method: str, tmp_path: Path) -> None:
        model, chosen = adapted(method)
        with pytest.raises(ConfigError, match="no LoRA form; export it merged"):
            chosen.save_as_lora(model, tmp_path, "net")


def small_model(architecture: str) -> nn.Module:
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    config = transformers_config(small(architecture))
    config.pad_token_id = 0
    torch.manual_seed(1)
    factory = AutoModelForSequenceClassification if architecture in ENCODERS else AutoModelForCausalLM
    return factory.from_config(config).eval()


IDS = torch.tensor([[5, 6, 7, 8], [9, 10, 11, 12]])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("method", METHODS_HERE)
def test_every_architecture_starts_unchanged(method: str, architecture: str) -> None:
    base = small_model(architecture)
    expected = base(IDS).logits
    options = {"rank": R} if method in LOW_RANK else {}
    model, _ = adapt(base, method, target_modules="all_linear", **options)
    assert any(isinstance(module, LinearWrapper) for module in model.modules())
    torch.testing.assert_close(model(IDS).logits, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("architecture", ["roberta", "gpt2", "llama"])
@pytest.mark.parametrize("method", LOW_RANK)
@pytest.mark.parametrize("rank", [None, 1])
def test_plain_peft_loads_the_lora_form(method: str, architecture: str, rank: int | None, tmp_path: Path) -> None:
    if rank and method != "dylora":
        return
    from peft import PeftModel

    model, chosen = adapt(small_model(architecture), method, target_modules="qv", rank=R)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter), alpha=0.3)
    if rank:
        chosen.use_rank(model, rank)
    chosen.save_as_lora(model, tmp_path, "base")
    plain_peft = PeftModel.from_pretrained(small_model(architecture), tmp_path).eval()
    assert plain_peft.peft_config["default"].r == (rank or R)
    assert not torch.allclose(model(IDS).logits, small_model(architecture)(IDS).logits, atol=1e-3)
    torch.testing.assert_close(plain_peft(IDS).logits, model(IDS).logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", METHODS_HERE)
def test_packed_weights_are_adapted_and_never_written_to(method: str) -> None:
    net = Net()
    net.square = Packed(net.square)
    packed, W = net.square.W_q.clone(), numbers(net.square.dequantize())
    model, chosen = adapted(method, net)
    layer: Any = model.get_submodule("square")
    x = np.random.default_rng(0).normal(size=(10, 4))
    expected = EQUATIONS[method](W, numbers(net.get_submodule("square").base.bias), x, layer)
    np.testing.assert_allclose(numbers(layer(torch.tensor(x.T).float())).T, expected, rtol=2e-4, atol=2e-4)
    with pytest.raises(ConfigError, match="packed weights can't take up the adapter"):
        chosen.merge(model)
    assert torch.equal(layer.base.weight, packed)


def test_a_layer_that_shares_its_weight_is_refused() -> None:
    model = small_model("gpt2")
    with pytest.raises(ConfigError, match="lm_head shares its weight with another layer"):
        adapt(model, "trilora", target_modules=["lm_head"])


def test_methods_without_a_definition_are_named_with_the_reason_and_not_registered() -> None:
    assert set(UNAVAILABLE) == {"sara", "mo_sara"}
    assert not set(UNAVAILABLE) & set(METHODS.names())
    assert all("arXiv" in reason and "not stated" in reason for reason in UNAVAILABLE.values())
