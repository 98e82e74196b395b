"""KaSA's layer: what is cut, where it is kept, what the forward pass computes, and parity with PEFT."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from packed import Packed
from torch import nn

from kasa_corda.errors import ConfigError, KasaCordaError
from kasa_corda.kasa.layers import adapter, layers
from kasa_corda.kasa.presets import components_cut
from kasa_corda.kasa.truncation import kasa_truncate
from kasa_corda.methods.base import AdaptContext
from kasa_corda.methods.kasa import Kasa, KasaConfig


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Threads only wait for each other on matrices this small."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def kasa(**options) -> Kasa:
    return Kasa(KasaConfig(name="kasa", **{"rank": 4, **options}))


def context(targets, head=()) -> AdaptContext:
    return AdaptContext(list(targets), list(head), "SEQ_CLS", 0, 10)


class Net(nn.Module):
    """One square, one tall and one wide layer."""

    def __init__(self, dtype=torch.float32, decay=0.0) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.square, self.tall, self.wide = nn.Linear(24, 24), nn.Linear(24, 40), nn.Linear(40, 24)
        for layer in self.children():
            U, S, Vh = torch.linalg.svd(layer.weight.data.double(), full_matrices=False)
            spectrum = S * torch.exp(-decay * torch.arange(len(S)))
            layer.weight.data = ((U * spectrum) @ Vh).float()
        self.to(dtype)

    def forward(self, x):
        return self.wide(torch.relu(self.tall(torch.relu(self.square(x)))))


TARGETS = ["square", "tall", "wide"]


def singular_values(weight):
    return torch.linalg.svdvals(weight.detach().double())


@settings(max_examples=30, deadline=None)
@given(st.integers(6, 30), st.integers(6, 30), st.integers(1, 5), st.integers(0, 100))
def test_truncation_keeps_the_best_approximation_of_rank_k_minus_r(out_features, in_features, r, seed):
    W = torch.randn(out_features, in_features, generator=torch.Generator().manual_seed(seed))
    truncated, subspace = kasa_truncate(W, r)
    U, S, Vh = torch.linalg.svd(W.double(), full_matrices=False)
    kept = len(S) - r
    best = (U[:, :kept] * S[:kept]) @ Vh[:kept]
    assert (truncated.double() - best).norm() <= 1e-5 * W.norm()
    torch.testing.assert_close(subspace.values, S[kept:], rtol=1e-6, atol=1e-6)


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 20))
def test_components_cut_are_those_that_the_published_slices_drop(out_features, in_features, r):
    full = min(out_features, in_features)
    values = torch.arange(full)
    assert components_cut(out_features, in_features, r, "min") == r
    if r <= in_features:
        assert components_cut(out_features, in_features, r, "in_features") == full - len(values[: in_features - r])


@pytest.mark.parametrize(("keep", "wide"), [("min", 4), ("in_features", 0)])
def test_wide_layers_lose_components_only_if_the_smaller_side_counts(keep, wide):
    method = kasa(keep=keep)
    model = method.adapt(Net(), context(TARGETS))
    assert {row["layer"]: row["cut"] for row in method.diagnostics} == {"square": 4, "tall": 4, "wide": wide}
    for name, layer in layers(model):
        values = singular_values(layer.get_base_layer().weight)
        expected = 0 if name == "wide" and not wide else 4
        assert int((values < 1e-6 * values[0]).sum()) == expected


def test_truncation_rank_may_differ_from_the_adapters_rank():
    method = kasa(truncation_rank=2)
    model = method.adapt(Net(), context(TARGETS))
    assert {row["cut"] for row in method.diagnostics} == {2}
    assert {len(adapter(layer)[0]) for _, layer in layers(model)} == {4}


@pytest.mark.parametrize("core", ["diagonal", "dense"])
@pytest.mark.parametrize("scaling", ["lora", "rslora"])
def test_the_forward_pass_is_the_truncated_base_plus_scaled_update(core, scaling):
    method = kasa(core=core, scaling=scaling, alpha=6.0)
    model = method.adapt(Net(), context(["square"]))
    ((_, layer),) = layers(model)
    A, sigma, B = (t.data.normal_() for t in adapter(layer))
    scale = 6.0 / (4 if scaling == "lora" else 2)
    truncated = kasa_truncate(Net().square.weight.data, 4)[0]
    matrix = torch.diag(sigma) if core == "diagonal" else sigma
    x = torch.randn(3, 5, 24)
    expected = nn.functional.linear(x, truncated + scale * B @ matrix @ A, Net().square.bias)
    torch.testing.assert_close(layer(x), expected, rtol=1e-4, atol=1e-5)


def test_the_dense_core_starts_diagonal_and_every_entry_trains():
    model = kasa(variant="authors_first").adapt(Net(), context(["square"]))
    ((_, layer),) = layers(model)
    _, core, B = adapter(layer)
    assert core.shape == (4, 4)
    assert torch.equal(core, torch.diag(core.diagonal()))
    assert core.diagonal().abs().min() > 0
    B.data.normal_()
    layer(torch.randn(2, 24)).square().sum().backward()
    assert (core.grad != 0).all()


def test_peft_variant_starts_exactly_where_pefts_kasa_starts():
    from peft import KasaConfig as PeftKasa
    from peft import LoraConfig, get_peft_model

    nets = [Net(), Net()]
    torch.manual_seed(7)
    theirs = get_peft_model(nets[0], LoraConfig(r=4, lora_alpha=16, target_modules=TARGETS, kasa_config=PeftKasa()))
    torch.manual_seed(7)
    ours = kasa(variant="peft").adapt(nets[1], context(TARGETS))
    for name, layer in layers(ours):
        peer = theirs.base_model.model.get_submodule(name)
        assert torch.equal(layer.lora_A["default"].weight, peer.lora_A["default"].weight)
        assert torch.equal(layer.lora_diag["default"], peer.lora_diag["default"])
        assert not layer.lora_B["default"].weight.any()
        weight, other = layer.get_base_layer().weight, peer.get_base_layer().weight
        assert (weight - other).norm() <= 1e-5 * weight.norm()
        assert layer.scaling == peer.scaling


class TestLowPrecision:
    """A cut below the rounding of bfloat16 is kept beside the base, or reported as invisible."""

    def adapted(self, decay, **options):
        method = kasa(**options)
        return method, method.adapt(Net(torch.bfloat16, decay), context(TARGETS))

    def test_a_cut_that_rounding_would_swallow_is_kept_in_float32(self):
        method, model = self.adapted(decay=0.4)
        assert {row["placement"] for row in method.diagnostics} == {"low_rank"}
        assert all(row["lost_if_folded"] > 0.5 for row in method.diagnostics)
        before = Net(torch.bfloat16, 0.4)
        for name, layer in layers(model):
            untouched = before.get_submodule(name).weight
            assert torch.equal(layer.get_base_layer().weight, untouched)
            exact = kasa_truncate(untouched.double(), 4)[0]
            effective = untouched.double() + layer.cut_up.double() @ layer.cut_down.double()
            assert (effective - exact).norm() < 1e-3 * (untouched.double() - exact).norm()
        assert any("low-rank" in note for note in method.notes)

    def test_a_cut_that_survives_rounding_is_folded(self):
        method, model = self.adapted(decay=0.0)
        assert {row["placement"] for row in method.diagnostics} == {"fold"}
        assert all(layer.cut_up is None for _, layer in layers(model))
        assert not any(row["invisible"] for row in method.diagnostics)

    @pytest.mark.parametrize("variant", ["peft", "authors"])
    def test_codes_that_fold_regardless_are_told_apart_as_invisible(self, variant):
        method, _ = self.adapted(decay=0.4, variant=variant)
        cut = [row for row in method.diagnostics if row["cut"]]
        assert all(row["placement"] == "fold" and row["invisible"] for row in cut)
        assert any("hardly truncated" in note for note in method.notes)

    def test_the_forward_pass_subtracts_the_low_rank_part(self):
        _, model = self.adapted(decay=0.4)
        layer = dict(layers(model))["square"]
        x = torch.randn(64, 24, dtype=torch.bfloat16)
        layer.cut_up.mul_(1000)  # far above rounding
        with torch.no_grad():
            difference = layer.get_base_layer()(x).double() - layer(x).double()
        expected = -x.double() @ (layer.cut_up.double() @ layer.cut_down.double()).T
        assert (difference - expected).norm() < 0.02 * expected.norm() + 0.02 * layer(x).norm()

    def test_a_float32_base_is_always_folded(self):
        method = kasa(variant="paper")
        method.adapt(Net(decay=2.0), context(TARGETS))
        assert {row["placement"] for row in method.diagnostics} == {"fold"}


def test_conv1d_is_cut_like_the_linear_layer_it_stands_for():
    from transformers.pytorch_utils import Conv1D

    torch.manual_seed(0)
    conv = Conv1D(40, 24)
    linear = nn.Linear(24, 40)
    linear.weight.data, linear.bias.data = conv.weight.data.T.clone(), conv.bias.data.clone()
    models = []
    for module in (conv, linear):
        torch.manual_seed(3)
        models.append(kasa(correction="low_rank").adapt(nn.ModuleDict({"c": module}), context(["c"])))
    found = [next(layers(model))[1] for model in models]
    for layer in found:
        layer.lora_B["default"].weight.data.fill_(0.1)
    x = torch.randn(2, 5, 24)
    torch.testing.assert_close(found[0](x), found[1](x))
    merged = [model.merge_and_unload()["c"] for model in models]
    torch.testing.assert_close(merged[0].weight.T, merged[1].weight)


def test_a_quantised_base_is_never_written_to():
    net = Net()
    net.square = Packed(net.square)
    packed = net.square.W_q.clone()
    method = kasa(variant="peft")
    model = method.adapt(net, context(["square"]))
    ((_, layer),) = layers(model)
    (row,) = method.diagnostics
    assert (row["placement"], row["dtype"]) == ("low_rank", "quantised")
    assert torch.equal(layer.get_base_layer().weight, packed)
    x = torch.randn(6, 24)
    truncated = kasa_truncate(layer.get_base_layer().dequantize(), 4)[0]
    torch.testing.assert_close(layer(x), nn.functional.linear(x, truncated, net.square.bias), rtol=1e-4, atol=1e-5)
    with pytest.raises(ConfigError, match="export it as a LoRA"):
        method.merge(model)


@pytest.mark.parametrize("kind", ["Linear4bit", "Linear8bitLt"])
@pytest.mark.parametrize("used_before", [False, True])
def test_a_bitsandbytes_base_is_cut_beside_its_packed_weights(kind, used_before):
    layer_type = getattr(pytest.importorskip("bitsandbytes").nn, kind)
    options = {"compute_dtype": torch.float32} if kind == "Linear4bit" else {"has_fp16_weights": False}
    net, x = Net(), torch.randn(6, 24)
    packed = layer_type(24, 24, **options)
    packed.load_state_dict(net.square.state_dict())
    net.square = packed.to("cpu")
    if used_before:
        packed(x)
    method = kasa(variant="peft")
    ((_, layer),) = layers(method.adapt(net, context(["square"])))
    (row,) = method.diagnostics
    assert (row["placement"], row["dtype"]) == ("low_rank", "quantised")
    truncated = kasa_truncate(layer.dense_weight(), 4)[0]
    torch.testing.assert_close(layer(x), nn.functional.linear(x, truncated, packed.bias), rtol=1e-4, atol=1e-4)


class TestRefusals:
    def test_tied_embeddings(self):
        class Tied(nn.Module):
            def __init__(self):
                super().__init__()
                self.embeddings, self.head = nn.Embedding(20, 8), nn.Linear(8, 20, bias=False)
                self.head.weight = self.embeddings.weight

        with pytest.raises(ConfigError, match="head shares its weight with embeddings"):
            kasa(rank=2).adapt(Tied(), context(["head"]))

    def test_embeddings(self):
        with pytest.raises(ConfigError, match=r"e is a Embedding; KaSA adapts nn.Linear"):
            kasa(rank=2).adapt(nn.ModuleDict({"e": nn.Embedding(20, 8)}), context(["e"]))

    def test_a_model_that_carries_an_adapter(self):
        model = kasa().adapt(Net(), context(["square"]))
        with pytest.raises(ConfigError, match="load the base again"):
            kasa().adapt(model, context(["tall"]))

    def test_weights_that_are_not_finite_with_the_layers_name(self):
        net = Net()
        net.tall.weight.data[0, 0] = torch.nan
        with pytest.raises(KasaCordaError, match=r"tall.*NaN"):
            kasa().adapt(net, context(TARGETS))

    def test_a_rank_that_leaves_nothing(self):
        with pytest.raises(ConfigError, match=r"method.rank=24 keeps no component of layer square .*=23 or less"):
            kasa(rank=24).check({"square": (24, 24)})
        with pytest.raises(ConfigError, match=r"method.truncation_rank=30 keeps no component"):
            kasa(truncation_rank=30).check({"square": (24, 24)})
        kasa(rank=24, control="no_truncation").check({"square": (24, 24)})

    def test_training_nothing_at_all(self):
        with pytest.raises(ConfigError, match="trains nothing but a task head"):
            kasa(control="truncation_only").adapt(Net(), context(TARGETS))


def test_a_dry_run_on_the_meta_device_cuts_nothing():
    with torch.device("meta"):
        net = Net.__new__(Net)
        nn.Module.__init__(net)
        net.square = nn.Linear(24, 24)
    method = kasa()
    model = method.adapt(net, context(["square"]))
    assert method.diagnostics == []
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 4 * 48 + 4


def test_moving_the_model_moves_the_low_rank_part_and_keeps_it_out_of_the_state():
    model = kasa(correction="low_rank").adapt(Net(), context(TARGETS))
    assert not any("cut_" in name for name in model.state_dict())
    moved = copy.deepcopy(model).to("meta")
    assert all(layer.cut_up.is_meta for _, layer in layers(moved))
