"""KaSA's auxiliary loss against a plain float64 transcription of the published forms."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kasa_corda.regulariser import Form, Regulariser, kasa_regulariser

FORMS = [Form(mean, large, squared) for mean in (False, True) for large in (False, True) for squared in (False, True)]


def reference(adapters, beta, gamma, form):
    """The loss as the codes write it, layer by layer, every Gram matrix formed in full."""
    total = torch.zeros((), dtype=torch.float64)
    for A, core, B in adapters:
        grams = (A.T @ A, B @ B.T) if form.large_gram else (A @ A.T, B.T @ B)
        norms = [torch.linalg.norm(g - torch.eye(len(g), dtype=g.dtype)) for g in grams]
        total = total + beta * (core**2).sum() + gamma * sum(n**2 if form.squared else n for n in norms)
    return total / len(adapters) if form.mean else total


def random_adapters(seed, shapes, scale=1.0):
    generator = torch.Generator().manual_seed(seed)

    def draw(*size):
        return (torch.randn(size, generator=generator, dtype=torch.float64) * scale).requires_grad_()

    return [(draw(r, n), draw(r, r) if dense else draw(r), draw(m, r)) for m, n, r, dense in shapes]


def gradients(value, adapters):
    return torch.autograd.grad(value, [tensor for layer in adapters for tensor in layer])


shape = st.tuples(st.integers(5, 24), st.integers(5, 24), st.integers(1, 4), st.booleans())
repeated = st.lists(shape, min_size=1, max_size=4).flatmap(
    lambda some: st.integers(1, 3).map(lambda times: some * times)
)


@settings(max_examples=60, deadline=None)
@given(repeated, st.integers(0, 1000), st.sampled_from(FORMS), st.sampled_from([0.05, 1.0]))
def test_value_and_gradient_equal_the_explicit_grams_in_float64(shapes, seed, form, scale):
    adapters = random_adapters(seed, shapes, scale)
    expected, found = reference(adapters, 0.3, 0.7, form), Regulariser(adapters, 0.3, 0.7, form)()
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    for ours, theirs in zip(gradients(found, adapters), gradients(expected, adapters), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)


@settings(max_examples=30, deadline=None)
@given(repeated, st.integers(0, 1000), st.sampled_from(["paper", "peft", "authors", "authors_first"]))
def test_float32_stays_within_1e_5_of_float64(shapes, seed, variant):
    single = [tuple(t.detach().float().requires_grad_() for t in layer) for layer in random_adapters(seed, shapes)]
    # of the rounded numbers: near A A^T = I rounding them moves the gradient more than computing in float32 does
    exact = [tuple(t.detach().double().requires_grad_() for t in layer) for layer in single]
    large = Form(mean=True, large_gram=True) if variant.startswith("authors") else Form()
    expected, found = reference(exact, 0.3, 0.7, large), kasa_regulariser(single, 0.3, 0.7, variant)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    for ours, theirs in zip(gradients(found, single), gradients(expected, exact), strict=True):
        assert (ours.double() - theirs).norm() <= 1e-5 * theirs.norm() + 1e-12


def test_the_authors_large_gram_is_matched_at_a_real_size_from_the_usual_start():
    generator = torch.Generator().manual_seed(0)
    A = (torch.rand(8, 768, generator=generator, dtype=torch.float64) * 2 - 1) / 768**0.5
    B = torch.randn(768, 8, generator=generator, dtype=torch.float64) * 1e-3
    exact = [(A.requires_grad_(), torch.randn(8, generator=generator, dtype=torch.float64), B.requires_grad_())]
    exact[0][1].requires_grad_()
    single = [tuple(t.detach().float().requires_grad_() for t in layer) for layer in exact]
    form = Form(mean=True, large_gram=True)
    expected, found = reference(exact, 1.0, 1.0, form), kasa_regulariser(single, 1.0, 1.0, "authors")
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)
    for ours, theirs in zip(gradients(found, single), gradients(expected, exact), strict=True):
        assert (ours.double() - theirs).norm() <= 1e-5 * theirs.norm()


@pytest.mark.parametrize("long", [11008, 1000])
def test_a_nearly_orthonormal_long_factor_keeps_its_digits(long):
    """B' B is within a few per cent of the identity, as after training, and the difference is what counts."""
    exact = random_adapters(0, [(long, 64, 16, False)], scale=long**-0.5)
    narrow = [tuple(tensor.detach().float().requires_grad_() for tensor in layer) for layer in exact]
    form = Form(mean=True, large_gram=True)
    wanted = gradients(reference(exact, 0.0, 1.0, form), exact)
    found = gradients(Regulariser(narrow, 0.0, 1.0, form)(), narrow)
    for want, have in list(zip(wanted, found, strict=True))[::2]:
        assert (have - want).norm() <= 1e-5 * want.norm()


def test_autocast_does_not_lower_the_precision():
    adapters = [tuple(t.detach().float() for t in layer) for layer in random_adapters(3, [(40, 60, 4, False)] * 3)]
    plain = kasa_regulariser(adapters, 0.1, 0.2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert kasa_regulariser(adapters, 0.1, 0.2) == plain


def test_half_precision_parameters_are_penalised_in_float32():
    exact = random_adapters(5, [(40, 60, 4, True)] * 2)
    halves = [tuple(t.detach().bfloat16().requires_grad_() for t in layer) for layer in exact]
    widened = [tuple(t.detach().double() for t in layer) for layer in halves]
    found = kasa_regulariser(halves, 0.1, 0.2)
    assert found.item() == pytest.approx(reference(widened, 0.1, 0.2, Form()).item(), rel=1e-5)
    assert all(g.dtype == torch.bfloat16 for g in gradients(found, halves))


@settings(max_examples=30, deadline=None)
@given(repeated, st.integers(0, 1000), st.sampled_from(FORMS), st.booleans(), st.booleans())
def test_adding_the_gradient_directly_is_what_backward_does(shapes, seed, form, present, frozen):
    def layers():
        found = random_adapters(seed, shapes)
        for A, core, B in found:
            core.requires_grad_(not frozen)
            if present:
                A.grad, B.grad = torch.ones_like(A), torch.ones_like(B)
        return found

    by_autograd, directly = layers(), layers()
    value = Regulariser(by_autograd, 0.3, 0.7, form)()
    (8 * value).backward()
    assert Regulariser(directly, 0.3, 0.7, form).add_gradient(torch.tensor(8.0, dtype=torch.float64)) == value
    for expected, found in zip(by_autograd, directly, strict=True):
        for a, b in zip(expected, found, strict=True):
            assert (a.grad is None) == (b.grad is None)
            if a.grad is not None:
                torch.testing.assert_close(b.grad, a.grad)


def test_frozen_cores_get_no_gradient_and_later_values_are_read_afresh():
    A, core, B = random_adapters(1, [(9, 7, 2, False)])[0]
    loss = Regulariser([(A, core.detach(), B)], 1.0, 1.0, Form())
    first = loss()
    (2 * first).backward()
    assert A.grad is not None
    assert core.grad is None
    with torch.no_grad():
        A.mul_(2)
    assert loss() > first


def test_gradient_is_finite_where_the_factor_is_exactly_orthonormal():
    eye = torch.eye(8)[:, :3].clone()
    layer = (eye.T.clone().requires_grad_(), torch.zeros(3, requires_grad=True), eye.requires_grad_())
    value = kasa_regulariser([layer], 1.0, 1.0)
    value.backward()
    assert value == 0
    assert all((t.grad == 0).all() for t in layer)


def test_peft_variant_equals_pefts_own_loss_and_gradient():
    from peft import KasaConfig, LoraConfig, get_peft_model
    from torch import nn

    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, 12))
    config = LoraConfig(r=3, target_modules=["0", "2"], kasa_config=KasaConfig(beta=0.2, gamma=0.5))
    model = get_peft_model(net, config)
    wrapped = [model.base_model.model[i] for i in (0, 2)]
    layers = [(w.lora_A["default"].weight, w.lora_diag["default"], w.lora_B["default"].weight) for w in wrapped]
    for _, _, B in layers:
        B.data.normal_()
    ours, theirs = kasa_regulariser(layers, 0.2, 0.5, "peft"), model.base_model._get_kasa_loss()
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-6)
    for a, b in zip(gradients(ours, layers), gradients(theirs, layers), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


def test_unknown_variant_and_no_adapter_are_refused():
    layer = random_adapters(0, [(5, 5, 2, False)])
    with pytest.raises(ValueError, match="variant 'papre'"):
        kasa_regulariser(layer, 1, 1, "papre")
    with pytest.raises(ValueError, match="no KaSA adapter"):
        kasa_regulariser([], 1, 1)
