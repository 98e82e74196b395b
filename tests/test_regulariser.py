"""KaSA's auxiliary loss against a plain float64 transcription of both codes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kasa_corda.regulariser import kasa_regulariser


def reference(adapters, beta, gamma, variant):
    """The loss as both codes write it, layer by layer, large Grams formed."""
    total = torch.zeros((), dtype=torch.float64)
    for A, sigma, B in adapters:
        if variant == "authors":
            grams = (A.T @ A, B @ B.T)
        else:
            grams = (A @ A.T, B.T @ B)
        orthogonality = sum(torch.linalg.norm(g - torch.eye(len(g), dtype=g.dtype)) for g in grams)
        total = total + beta * (sigma**2).sum() + gamma * orthogonality
    return total / len(adapters) if variant == "authors" else total


def random_adapters(seed, shapes):
    generator = torch.Generator().manual_seed(seed)
    return [
        tuple(torch.randn(size, generator=generator, dtype=torch.float64) for size in ((r, n), (r,), (m, r)))
        for m, n, r in shapes
    ]


shape = st.tuples(st.integers(5, 24), st.integers(5, 24), st.integers(1, 4))


@settings(max_examples=40, deadline=None)
@given(st.lists(shape, min_size=1, max_size=5), st.integers(0, 1000), st.sampled_from(["peft", "authors"]))
def test_value_and_gradient_equal_the_plain_float64_form(shapes, seed, variant):
    exact = [tuple(t.requires_grad_() for t in layer) for layer in random_adapters(seed, shapes)]
    fast = [tuple(t.detach().float().requires_grad_() for t in layer) for layer in exact]
    expected = reference(exact, 0.3, 0.7, variant)
    found = kasa_regulariser(fast, 0.3, 0.7, variant)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    expected.backward()
    found.backward()
    for slow_layer, fast_layer in zip(exact, fast, strict=True):
        for slow, quick in zip(slow_layer, fast_layer, strict=True):
            torch.testing.assert_close(quick.grad.double(), slow.grad, rtol=1e-4, atol=1e-6)


def test_peft_variant_equals_pefts_own_loss():
    from peft import KasaConfig, LoraConfig, get_peft_model
    from torch import nn

    from kasa_corda.methods.kasa import adapters

    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, 12))
    config = LoraConfig(r=3, target_modules=["0", "2"], kasa_config=KasaConfig(beta=0.2, gamma=0.5))
    model = get_peft_model(net, config)
    for layer in adapters(model):
        layer[2].data.normal_()
    ours = kasa_regulariser(adapters(model), 0.2, 0.5, "peft")
    assert ours.item() == pytest.approx(model.base_model._get_kasa_loss().item(), rel=1e-6)


def test_gradient_is_finite_where_the_factor_is_exactly_orthonormal():
    q = torch.linalg.qr(torch.randn(8, 3))[0]
    layer = (q.T.clone().requires_grad_(), torch.zeros(3, requires_grad=True), q.clone().requires_grad_())
    kasa_regulariser([layer], 1.0, 1.0).backward()
    assert all(torch.isfinite(t.grad).all() for t in layer)


def test_unknown_variant_and_no_adapter_are_refused():
    layer = random_adapters(0, [(5, 5, 2)])
    with pytest.raises(ValueError, match="variant 'papre'"):
        kasa_regulariser(layer, 1, 1, "papre")
    with pytest.raises(ValueError, match="no KaSA adapter"):
        kasa_regulariser([], 1, 1)
