"""Singular subspaces against the full float64 SVD: every route, shape, type and spectrum, and input without answer."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kasa_corda.errors import ConfigError, KasaCordaError
from kasa_corda.spectral import (
    Product,
    Subspace,
    bottom_subspace,
    bottom_subspaces,
    top_subspace,
    top_subspaces,
)
from kasa_corda.spectral.batch import stacked
from kasa_corda.spectral.compute import Request, operand
from kasa_corda.spectral.routes import as_markdown, candidates

ROOT = Path(__file__).resolve().parents[1]
few = settings(max_examples=25, deadline=None, derandomize=True)
FIND = {"bottom": bottom_subspace, "top": top_subspace}
SPECTRA = {
    "power_law": lambda n: (torch.arange(n) + 10.0) ** -0.5,
    "fast_decay": lambda n: 10.0 ** -torch.linspace(0, 5, n),
    "linear": lambda n: torch.linspace(2, 0.01, n),
    "clustered": lambda n: torch.cat([torch.linspace(3, 2, n // 2), torch.linspace(1, 0.9, n - n // 2)]),
    "steps": lambda n: torch.tensor([4.0, 2.0, 1.0, 0.5])[torch.arange(n) * 4 // n],
}
ALL_ROUTES = ["filtered", "filtered_solve", "gram_partial", "gram_eigh", "triangular", "svd64"]  # gesvda needs CUDA
BOTTOM_ONLY = ("deflated", "triangular")
shapes = st.tuples(st.integers(6, 60), st.integers(6, 60))
dtypes = st.sampled_from([torch.float64, torch.float32, torch.bfloat16, torch.float16])


def with_spectrum(shape: tuple[int, int], values: Tensor, seed: int = 0) -> Tensor:
    """A random matrix (out, in) with these min(out, in) singular values, float64."""
    generator = torch.Generator().manual_seed(seed)

    def orthonormal(rows: int) -> Tensor:
        return torch.linalg.qr(torch.randn(rows, len(values), generator=generator, dtype=torch.float64))[0]

    return (orthonormal(shape[0]) * values.double()) @ orthonormal(shape[1]).T


def exact(M: Tensor, r: int, end: str) -> tuple[Tensor, Tensor, float]:
    """Basis (n, r), values (r,) and relative gap at the cut, by the float64 SVD."""
    left, values, right = torch.linalg.svd(M.double(), full_matrices=False)
    vectors = left if M.shape[0] <= M.shape[1] else right.T
    n = len(values)
    cut = r if end == "top" else n - r
    chosen = slice(0, cut) if end == "top" else slice(cut, n)
    return vectors[:, chosen], values[chosen], float((values[cut - 1] - values[cut]) / values[0])


def sine(basis: Tensor, reference: Tensor) -> float:
    """Sine of the largest angle between two subspaces of equal dimension."""
    basis = torch.linalg.qr(basis.double())[0]
    return float(torch.linalg.matrix_norm(basis - reference @ (reference.T @ basis), 2))


def assert_right(found: Subspace, M: Tensor, r: int, end: str) -> None:
    """The subspace if the cut has a gap; an invariant subspace with the right values in any case."""
    reference, values, gap = exact(M, r, end)
    scale = float(torch.linalg.matrix_norm(M.double(), 2))
    assert torch.allclose(found.values, values, atol=1e-9 * scale, rtol=1e-6)
    assert found.residual <= 1e-6
    basis = found.basis.double()
    assert torch.allclose(basis.T @ basis, torch.eye(r, dtype=torch.float64), atol=1e-5)
    if gap > 1e-7:
        assert found.resolved
        assert found.error is not None and found.error <= 1e-5
        assert sine(found.basis, reference) <= 1.5 * found.error + 1e-7


@few
@given(
    shape=shapes,
    dtype=dtypes,
    spectrum=st.sampled_from(sorted(SPECTRA)),
    share=st.floats(0, 1),
    end=st.sampled_from(sorted(FIND)),
    seed=st.integers(0, 99),
)
def test_subspace_is_that_of_the_float64_svd(
    shape: tuple[int, int], dtype: torch.dtype, spectrum: str, share: float, end: str, seed: int
) -> None:
    n = min(shape)
    M = with_spectrum(shape, SPECTRA[spectrum](n), seed).to(dtype)
    r = 1 + int(share * (n - 2))
    found = FIND[end](M, r)
    assert found.side == ("left" if shape[0] <= shape[1] else "right")
    assert found.basis.shape == (n, r) and found.basis.dtype == torch.float32
    assert_right(found, M, r, end)


@pytest.mark.parametrize("route", ALL_ROUTES)
@pytest.mark.parametrize("shape", [(160, 160), (120, 300), (300, 120)])
@pytest.mark.parametrize("spectrum", ["power_law", "linear", "gaussian"])
def test_every_route_gives_the_same_bottom(route: str, shape: tuple[int, int], spectrum: str) -> None:
    torch.manual_seed(3)
    M = torch.randn(shape) if spectrum == "gaussian" else with_spectrum(shape, SPECTRA[spectrum](min(shape))).float()
    found = bottom_subspace(M, 8, route=route)
    assert found.route == route and found.fallback is None
    assert_right(found, M, 8, "bottom")


@pytest.mark.parametrize("route", [route for route in ALL_ROUTES if route not in BOTTOM_ONLY])
@pytest.mark.parametrize("shape", [(160, 160), (120, 300), (300, 120)])
def test_every_route_gives_the_same_top(route: str, shape: tuple[int, int]) -> None:
    M = with_spectrum(shape, SPECTRA["power_law"](min(shape))).float()
    found = top_subspace(M, 8, route=route)
    assert found.route == route and found.fallback is None
    assert_right(found, M, 8, "top")


@few
@given(
    size=st.integers(40, 90),
    decades=st.floats(0, 9),
    share=st.floats(0.02, 0.5),
    end=st.sampled_from(sorted(FIND)),
    route=st.sampled_from([*ALL_ROUTES, "deflated"]),
    seed=st.integers(0, 99),
)
def test_reported_error_bounds_the_true_one(
    size: int, decades: float, share: float, end: str, route: str, seed: int
) -> None:
    M = with_spectrum((size, size + 7), 10.0 ** -torch.linspace(0, decades, size, dtype=torch.float64), seed)
    r = max(1, int(share * size))
    found = FIND[end](M, r, dtype=torch.float64, route=route)
    reference, _, _ = exact(M, r, end)
    assert found.error is not None
    svd_rounding = 1e-14 * 10**decades  # the reference is no better than this
    assert sine(found.basis, reference) <= 2 * found.error + svd_rounding


def test_the_filtered_route_reaches_the_tolerance_on_larger_shapes() -> None:
    torch.manual_seed(0)
    for shape in ((560, 520), (520, 700)):
        M = (torch.randn(shape) / shape[1] ** 0.5).bfloat16()
        for end, find in FIND.items():
            found = find(M, 8, route="filtered")
            assert found.route == "filtered" and found.fallback is None
            assert_right(found, M, 8, end)


def test_small_singular_values_leave_the_gram_matrix_for_a_route_that_does_not_square_them() -> None:
    M = with_spectrum((64, 80), 10.0 ** -torch.linspace(0, 8, 64, dtype=torch.float64))
    found = bottom_subspace(M, 6, route="gram_eigh")
    assert found.route == "triangular"
    assert found.fallback is not None and "gram_eigh" in found.fallback
    assert_right(found, M, 6, "bottom")


@pytest.mark.parametrize("shape", [(160, 160), (120, 300), (300, 120)])
@pytest.mark.parametrize("decades", [2, 5, 7])
def test_outlying_singular_values_are_squeezed_out_of_the_grams_way(shape: tuple[int, int], decades: int) -> None:
    n = min(shape)
    values = torch.cat([10.0 ** torch.linspace(decades, 1, 6), torch.linspace(1, 1e-2, n - 6)]).double()
    C = torch.eye(shape[1], dtype=torch.float64)
    M = with_spectrum(shape, values)
    found = bottom_subspace(Product(M, C), 6, dtype=torch.float64)
    assert found.route == "deflated" and found.fallback is None
    assert_right(found, M, 6, "bottom")
    reference, expected, gap = exact(M, 6, "bottom")
    assert sine(found.basis, reference) <= found.error + 1e-14 / gap
    assert torch.allclose(found.values, expected, rtol=1e-6, atol=1e-14 * 10**decades)


def test_a_power_law_is_not_squeezed_and_says_why() -> None:
    M = with_spectrum((160, 170), 10.0 ** -torch.linspace(0, 1, 160, dtype=torch.float64))
    found = bottom_subspace(M, 6, route="deflated")
    assert found.route == "gram_partial" and "no singular value sticks out" in str(found.fallback)


def test_an_iteration_that_gives_up_hands_over_and_says_so() -> None:
    # A wide plateau at the cut: no oversampling reaches past it, and Chebyshev gains little per product.
    values = torch.cat([torch.linspace(1.001, 1.0, 250), torch.linspace(0.9999, 0.9998, 8)])
    M = with_spectrum((258, 300), values)
    found = top_subspace(M, 4, route="filtered")
    assert found.route == "gram_partial" and found.fallback is not None and "not converged" in found.fallback
    assert_right(found, M, 4, "top")


@pytest.mark.parametrize("end", sorted(FIND))
@pytest.mark.parametrize("route", [None, "filtered"])
def test_equal_singular_values_at_the_cut_end_with_an_invariant_subspace(end: str, route: str | None) -> None:
    values = torch.cat([torch.full((40,), 3.0), torch.linspace(2, 1, 60), torch.full((40,), 0.5)])
    M = with_spectrum((140, 150), values)
    found = FIND[end](M, 10, route=route)
    assert not found.resolved
    assert found.residual <= 1e-12
    plateau, _, _ = exact(M, 40, end)
    inside = found.basis.double() - plateau @ (plateau.T @ found.basis.double())
    assert inside.norm() <= 1e-6


def test_all_singular_values_equal() -> None:
    for route in ("filtered", "gram_eigh", "triangular"):
        found = bottom_subspace(with_spectrum((150, 150), torch.ones(150)), 5, route=route)
        assert not found.resolved and found.residual <= 1e-12
        assert torch.allclose(found.values, torch.ones(5, dtype=torch.float64))


@few
@given(rank=st.integers(1, 29), r=st.integers(1, 29), end=st.sampled_from(sorted(FIND)), seed=st.integers(0, 9))
def test_rank_deficient_matrices(rank: int, r: int, end: str, seed: int) -> None:
    values = torch.cat([torch.linspace(2, 1, rank), torch.zeros(30 - rank)])
    M = with_spectrum((30, 45), values, seed)
    found = FIND[end](M, r)
    _, expected, gap = exact(M, r, end)
    assert torch.allclose(found.values, expected, atol=1e-7)
    assert found.residual <= 1e-12
    if gap > 1e-3:
        assert_right(found, M, r, end)
    elif gap < 1e-14:
        assert not found.resolved


@pytest.mark.parametrize("end", sorted(FIND))
@pytest.mark.parametrize("r", [3, 8])
def test_an_iteration_on_a_matrix_of_lower_rank_than_its_block(end: str, r: int) -> None:
    M = with_spectrum((100, 120), torch.cat([torch.linspace(2, 1, 5), torch.zeros(95)]))
    found = FIND[end](M, r, route="filtered")
    assert found.residual <= 1e-9
    assert torch.allclose(found.values, exact(M, r, end)[1], atol=1e-7)
    assert found.resolved == (end == "top" and r == 3)


def test_zero_matrix_has_the_axes_as_directions() -> None:
    for find in FIND.values():
        found = find(torch.zeros(6, 9), 2)
        assert torch.equal(found.basis, torch.eye(6, 2)) and found.values.tolist() == [0, 0]
        assert not found.resolved and found.residual == 0


@pytest.mark.parametrize("rank", [0, -1, 5, 6])
def test_a_rank_that_leaves_nothing_is_refused_with_rank_and_shape(rank: int) -> None:
    for find in (bottom_subspace, top_subspace):
        with pytest.raises(ConfigError, match=rf"layers\.0\.q: rank {rank} .*\(5, 7\)"):
            find(torch.randn(5, 7), rank, name="layers.0.q")
    with pytest.raises(ConfigError, match=f"b: rank {rank}"):
        bottom_subspaces([torch.randn(5, 7)], rank, names=["b"])


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_nan_and_infinity_are_refused_by_layer_name(bad: float, dtype: torch.dtype) -> None:
    M = torch.randn(8, 12).to(dtype)
    M[3, 4] = bad
    with pytest.raises(KasaCordaError, match=r"block\.1\.up.*NaN or infinite"):
        bottom_subspace(M, 2, name="block.1.up")
    with pytest.raises(KasaCordaError, match="NaN or infinite"):
        top_subspace(Product(torch.randn(8, 12), torch.full((12, 12), bad)), 2)


def test_what_is_no_real_matrix_is_refused() -> None:
    for wrong in (torch.zeros(3), torch.zeros(4, 4, dtype=torch.int64), torch.zeros(2, 3, 4)):
        with pytest.raises(ConfigError, match="matrix of real numbers"):
            bottom_subspace(wrong, 1)
    with pytest.raises(ConfigError, match="C must be"):
        bottom_subspace(Product(torch.zeros(4, 5), torch.zeros(4, 4)), 1)
    with pytest.raises(ConfigError, match="route=magic"):
        bottom_subspace(torch.randn(4, 5), 1, route="magic")


@few
@given(
    shape=shapes,
    exponent=st.sampled_from([0.0, 0.5, 1.0, 0.25]),
    end=st.sampled_from(sorted(FIND)),
    seed=st.integers(0, 99),
)
def test_a_product_has_the_directions_of_the_matrix_multiplied_out(
    shape: tuple[int, int], exponent: float, end: str, seed: int
) -> None:
    torch.manual_seed(seed)
    W = torch.randn(shape)
    X = torch.randn(shape[1], 2 * shape[1], dtype=torch.float64)
    C = X @ X.T / 50
    power, directions = torch.linalg.eigh(C)
    M = W.double() @ (directions * power**exponent) @ directions.T
    r = min(shape) // 2
    assert_right(FIND[end](Product(W, C, exponent), r), M, r, end)


@pytest.mark.parametrize("shape", [(20, 50), (50, 20)])
def test_the_triangular_root_keeps_left_vectors_and_values(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    W, X = torch.randn(shape), torch.randn(shape[1], 200, dtype=torch.float64)
    C = X @ X.T
    L = torch.linalg.cholesky(C)
    symmetric = bottom_subspace(Product(W, C, 0.5), 5, dtype=torch.float64)
    triangular = bottom_subspace(Product(W, C, 0.5, root="cholesky"), 5, dtype=torch.float64)
    assert torch.allclose(symmetric.values, triangular.values)
    if shape[0] < shape[1]:
        assert sine(triangular.basis, symmetric.basis) < 1e-9
    else:
        assert_right(triangular, W.double() @ L, 5, "bottom")
        power, directions = torch.linalg.eigh(C)
        inverse_root = (directions * power**-0.5) @ directions.T
        # both give the same kept component: the projector onto V^T C^(-1/2) and V'^T L^(-1)
        ours = torch.linalg.qr(torch.linalg.solve_triangular(L.T, triangular.basis, upper=True))[0]
        theirs = torch.linalg.qr(inverse_root @ symmetric.basis)[0]
        assert sine(ours, theirs) < 1e-8


def test_a_singular_covariance_is_fine_unless_its_triangular_root_is_asked_for() -> None:
    torch.manual_seed(0)
    W, X = torch.randn(12, 9), torch.randn(9, 4, dtype=torch.float64)
    C = X @ X.T
    found = bottom_subspace(Product(W, C, 0.5), 3)
    assert found.values.max() < 1e-6 and not found.resolved
    with pytest.raises(KasaCordaError, match="not positive definite"):
        bottom_subspace(Product(W, C - 0.1 * torch.eye(9), 0.5, root="cholesky"), 3)


def test_many_matrices_give_what_single_ones_give_and_report_in_passing() -> None:
    torch.manual_seed(0)
    matrices = [torch.randn(30, 40), torch.randn(40, 30).bfloat16(), torch.randn(30, 30), torch.zeros(30, 31)]
    for many, one in ((bottom_subspaces, bottom_subspace), (top_subspaces, top_subspace)):
        reported: list[int] = []
        results = many(matrices, 4, report=lambda index, _, seen=reported: seen.append(index))
        assert sorted(reported) == [0, 1, 2, 3]
        for M, found in zip(matrices, results, strict=True):
            assert torch.equal(found.basis, one(M, 4).basis)


@pytest.mark.parametrize("largest", [True, False])
def test_stacked_decomposition_equals_single_ones(largest: bool) -> None:
    torch.manual_seed(0)
    deficient = with_spectrum((24, 50), 10.0 ** -torch.linspace(0, 9, 24, dtype=torch.float64))
    matrices = [torch.randn(24, 40), torch.randn(60, 24), deficient, torch.zeros(24, 24)]
    request = Request(4, largest, torch.float32, 5e-6)
    results = stacked([operand(M, "m") for M in matrices], request)
    for M, found in zip(matrices, results, strict=True):
        single = FIND["top" if largest else "bottom"](M, 4)
        assert (found.fallback is None) == (single.fallback is None)
        assert torch.allclose(found.values, single.values, atol=1e-12)
        assert sine(found.basis, single.basis.double()) < 1e-5


def test_scale_of_the_input_changes_the_values_only() -> None:
    torch.manual_seed(0)
    M = torch.randn(20, 30, dtype=torch.float64)
    unit = bottom_subspace(M, 4)
    for factor in (2.0**-600, 2.0**500):
        scaled = bottom_subspace(M * factor, 4)
        assert torch.allclose(scaled.values, unit.values * factor, rtol=1e-12, atol=0)
        assert torch.equal(scaled.basis, unit.basis)


def test_the_same_input_gives_the_same_bits_and_leaves_the_random_state_alone() -> None:
    torch.manual_seed(0)
    M = torch.randn(200, 220)
    before = torch.get_rng_state()
    first = bottom_subspace(M, 6, route="filtered")
    assert torch.equal(first.basis, bottom_subspace(M, 6, route="filtered").basis)
    assert torch.equal(before, torch.get_rng_state())


def test_a_narrower_subspace_keeps_an_honest_error() -> None:
    M = with_spectrum((90, 100), SPECTRA["linear"](90))
    for end, find in FIND.items():
        wide = find(M, 32)
        narrow = wide.narrowed(5, largest=end == "top")
        assert_right(narrow, M, 5, end)


def test_a_parameter_that_requires_grad_is_taken_as_it_is() -> None:
    weight = torch.nn.Linear(12, 8).weight
    assert not bottom_subspace(weight, 2).basis.requires_grad


def test_the_documented_table_is_the_one_in_use() -> None:
    assert as_markdown() in (ROOT / "docs" / "spectral.md").read_text(encoding="utf-8")


def test_every_shape_has_a_route_on_every_device() -> None:
    for n, r in ((2, 1), (64, 60), (512, 8), (8192, 32), (8192, 4000)):
        for largest in (True, False):
            rows = candidates(n, r, torch.device("cpu"), largest=largest)
            assert rows and rows[-1].route == "svd64"
            assert len({row.route for row in rows}) == len(rows)
