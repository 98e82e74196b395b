"""The cache of subspaces: what it serves, what it refuses, and that nothing it does can stop a run."""

from __future__ import annotations

import errno
import importlib.util
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from kasa_corda.errors import ConfigError
from kasa_corda.spectral import (
    Product,
    SpectralCache,
    Subspace,
    batch,
    bottom_subspace,
    cached,
    cached_bottom_subspaces,
    cached_top_subspaces,
)
from kasa_corda.spectral.cached import stored_rank
from kasa_corda.spectral.fingerprint import ROW, fingerprint, row_sums

ROOT = Path(__file__).resolve().parents[1]
KEY = "ab" * 32


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def cache(tmp_path: Path, said: list[str]) -> SpectralCache:
    return SpectralCache(tmp_path / "spectral", model="tiny", say=said.append)


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """(name, rank) of every subspace that is computed rather than read."""
    seen: list[tuple[str, int]] = []
    original = batch.subspace

    def spy(M: Tensor | Product, request: batch.Request, *, name: str = "matrix") -> Subspace:
        seen.append((name, request.r))
        return original(M, request, name=name)

    monkeypatch.setattr(batch, "subspace", spy)
    monkeypatch.setattr(cached, "subspace", spy)
    return seen


@pytest.fixture
def weights() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return {"q": torch.randn(40, 40), "up": torch.randn(90, 40), "down": torch.randn(40, 90).bfloat16()}


def files(cache: SpectralCache) -> list[Path]:
    return [entry.path for entry in cache.entries()]


def same_space(one: Tensor, other: Tensor) -> bool:
    difference = one.double() @ one.double().T - other.double() @ other.double().T
    return float(torch.linalg.matrix_norm(difference, 2)) < 1e-5


def test_a_second_start_computes_nothing(
    cache: SpectralCache, weights: dict[str, Tensor], computed: list[tuple[str, int]]
) -> None:
    first = cached_bottom_subspaces(weights, 8, cache=cache)
    assert sorted(name for name, _ in computed) == ["down", "q", "up"]
    computed.clear()
    ready: list[str] = []
    second = cached_bottom_subspaces(weights, 8, cache=cache, progress=ready.append)
    assert computed == [] and sorted(ready) == ["down", "q", "up"] and list(second) == list(weights)
    for name, subspace in second.items():
        assert torch.equal(subspace.basis, first[name].basis) and torch.equal(subspace.values, first[name].values)
        assert subspace.side == first[name].side and subspace.error == first[name].error


def test_a_larger_stored_rank_serves_a_smaller_request(
    cache: SpectralCache, weights: dict[str, Tensor], computed: list[tuple[str, int]]
) -> None:
    cached_bottom_subspaces(weights, 11, cache=cache)
    assert {rank for _, rank in computed} == {16}
    computed.clear()
    for r in (16, 5, 1):
        for name, subspace in cached_bottom_subspaces(weights, r, cache=cache).items():
            fresh = bottom_subspace(weights[name], r)
            assert same_space(subspace.basis, fresh.basis) and torch.allclose(subspace.values, fresh.values)
            assert subspace.error is not None and subspace.error <= 1e-5
    assert computed == []
    cached_bottom_subspaces(weights, 17, cache=cache)
    assert {rank for _, rank in computed} == {32}
    assert len(files(cache)) == 3


def test_an_inner_cut_without_gap_is_not_served_as_resolved(cache: SpectralCache) -> None:
    values = torch.cat([torch.linspace(3, 2, 30), torch.full((8,), 0.5)]).double()
    left, right = (torch.linalg.qr(torch.randn(38, 38, dtype=torch.float64))[0] for _ in range(2))
    M = {"w": (left * values) @ right}
    assert cached_bottom_subspaces(M, 8, cache=cache)["w"].resolved
    assert not cached_bottom_subspaces(M, 3, cache=cache)["w"].resolved


def test_one_changed_byte_another_end_or_covariance_is_another_entry(
    cache: SpectralCache, computed: list[tuple[str, int]]
) -> None:
    torch.manual_seed(0)
    W, C = torch.randn(20, 30), torch.eye(30)
    changed = W.clone()
    changed.view(torch.uint8)[-1, -4] ^= 1
    other = C.clone()
    other[0, 0] = 2
    inputs = [W, changed, W.double(), W.reshape(30, 20), Product(W, C), Product(W, other), Product(W, C, 0.5)]
    for M in inputs:
        cached_bottom_subspaces({"w": M}, 4, cache=cache)
    cached_top_subspaces({"w": W}, 4, cache=cache)
    cached_bottom_subspaces({"w": W}, 4, cache=cache, dtype=torch.float64)
    assert len(computed) == len(inputs) + 2 == len(files(cache))


def test_without_a_cache_everything_is_computed_at_the_rank_asked_for(
    weights: dict[str, Tensor], computed: list[tuple[str, int]]
) -> None:
    found = cached_bottom_subspaces(weights, 5, cache=None)
    assert computed == [(name, 5) for name in weights] and list(found) == list(weights)


def test_the_basis_comes_in_the_type_asked_for(cache: SpectralCache, weights: dict[str, Tensor]) -> None:
    for dtype in (torch.bfloat16, torch.float32, torch.float64, torch.bfloat16):
        found = cached_bottom_subspaces(weights, 4, cache=cache, dtype=dtype)["q"]
        assert found.basis.dtype is dtype and found.error is not None
        assert found.error >= torch.finfo(dtype).eps


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-5] ^= 16
    path.write_bytes(content)


def lose_its_metadata(path: Path) -> None:
    save_file(load_file(path), path)


@pytest.mark.parametrize("damage", [truncate, empty, flip_a_bit, lose_its_metadata])
def test_damaged_files_are_computed_again_and_said_once(
    damage: Callable[[Path], None],
    cache: SpectralCache,
    weights: dict[str, Tensor],
    computed: list[tuple[str, int]],
    said: list[str],
) -> None:
    first = cached_bottom_subspaces(weights, 8, cache=cache)
    for path in files(cache):
        damage(path)
    computed.clear()
    again = cached_bottom_subspaces(weights, 8, cache=cache)
    assert len(computed) == 3 and len(said) == 1 and "damaged" in said[0]
    assert all(torch.equal(again[name].basis, first[name].basis) for name in weights)
    computed.clear()
    cached_bottom_subspaces(weights, 8, cache=cache)
    assert computed == []


def test_a_file_of_another_matrix_under_this_name_is_not_served(
    cache: SpectralCache, weights: dict[str, Tensor], computed: list[tuple[str, int]], said: list[str]
) -> None:
    cached_bottom_subspaces({"q": weights["q"]}, 8, cache=cache)
    (own,) = files(cache)
    cached_bottom_subspaces({"up": weights["up"]}, 8, cache=cache)
    (foreign,) = (path for path in files(cache) if path != own)
    own.write_bytes(foreign.read_bytes())
    computed.clear()
    cached_bottom_subspaces({"q": weights["q"]}, 8, cache=cache)
    assert computed == [("q", 8)] and "another matrix" in said[0]


@pytest.mark.parametrize("failing", ["write_bytes", "replace", "mkdir"])
def test_a_full_disk_is_said_once_and_the_run_goes_on(
    failing: str,
    cache: SpectralCache,
    weights: dict[str, Tensor],
    said: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(Path, failing, full)
        found = cached_bottom_subspaces(weights, 8, cache=cache)
    assert list(found) == list(weights)
    assert len(said) == 1 and "No space left" in said[0] and "going on without it" in said[0]
    assert files(cache) == [] and list(cache.folder.glob("*/.*")) == []


def test_a_cache_that_may_only_be_read_still_serves(
    cache: SpectralCache, weights: dict[str, Tensor], computed: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    cached_bottom_subspaces(weights, 8, cache=cache)
    computed.clear()

    def refused(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "utime", refused)
    cached_bottom_subspaces(weights, 8, cache=cache)
    assert computed == []


def test_concurrent_writers_and_readers_leave_whole_files(
    tmp_path: Path, weights: dict[str, Tensor], said: list[str]
) -> None:
    def one_run(r: int) -> dict[str, Subspace]:
        return cached_bottom_subspaces(weights, r, cache=SpectralCache(tmp_path, say=said.append))

    with ThreadPoolExecutor(4) as pool:
        runs = list(pool.map(one_run, [8, 16, 8, 16] * 3))
    assert said == []
    for found in runs:
        for name, subspace in found.items():
            assert same_space(subspace.basis, bottom_subspace(weights[name], len(subspace.values)).basis)
    entries = SpectralCache(tmp_path).entries()
    assert len(entries) == 3 and all(entry.about for entry in entries)


def test_a_file_replaced_while_it_is_read_gives_the_old_or_the_new_whole(
    tmp_path: Path, weights: dict[str, Tensor], said: list[str]
) -> None:
    cache, cpu = SpectralCache(tmp_path, say=said.append), torch.device("cpu")
    stored = {r: bottom_subspace(weights["q"], r) for r in (8, 16)}
    cache.put(KEY, stored[8], {})
    ended = time.monotonic() + 1

    def replace_it(r: int) -> None:
        while time.monotonic() < ended:
            cache.put(KEY, stored[r], {})

    def ranks_read() -> list[int]:
        found = []
        while time.monotonic() < ended:
            subspace = cache.get(KEY, cpu)
            found.append(0 if subspace is None else len(subspace.values))
        return found

    with ThreadPoolExecutor(3) as pool:
        writers = [pool.submit(replace_it, r) for r in stored]
        found = pool.submit(ranks_read).result()
        for writer in writers:
            writer.result()
    assert said == []
    assert len(found) > 20 and set(found) <= set(stored)


def test_the_least_recently_used_go_first_when_the_limit_is_reached(
    tmp_path: Path, weights: dict[str, Tensor], computed: list[tuple[str, int]]
) -> None:
    unlimited = SpectralCache(tmp_path)
    for age, name in enumerate(weights):
        cached_bottom_subspaces({name: weights[name]}, 8, cache=unlimited)
        newest = unlimited.entries()[-1].path
        os.utime(newest, (time.time() - 1000 + age,) * 2)
    cached_bottom_subspaces({"q": weights["q"]}, 8, cache=unlimited)  # the oldest is used again
    size = sum(entry.octets for entry in unlimited.entries())
    limited = SpectralCache(tmp_path, max_gb=(size - 1) / 1e9)
    limited.evict()
    assert [entry.about["layer"] for entry in limited.entries()] == ["down", "q"]
    computed.clear()
    cached_bottom_subspaces({"q": weights["q"]}, 8, cache=limited)
    assert computed == []


def test_the_limit_comes_from_the_environment_and_must_be_a_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KASA_CORDA_CACHE_GB", "1.5")
    assert SpectralCache().max_octets == 1.5e9
    for wrong in ("much", "-1", "nan"):
        monkeypatch.setenv("KASA_CORDA_CACHE_GB", wrong)
        with pytest.raises(ConfigError, match=f"KASA_CORDA_CACHE_GB={wrong}"):
            SpectralCache()


def test_the_cache_lies_in_the_users_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KASA_CORDA_CACHE", str(tmp_path))
    assert SpectralCache().folder == tmp_path / "spectral"


def test_stored_rank_is_the_next_power_of_two_while_that_fits() -> None:
    assert [stored_rank(r, 4096) for r in (1, 8, 9, 32, 33, 512, 513)] == [8, 8, 16, 32, 64, 512, 513]
    assert stored_rank(20, 32) == 20 and stored_rank(20, 33) == 32


@pytest.mark.parametrize("position", [0, 4 * ROW - 1, 4 * ROW, 4 * ROW + 2])
def test_the_device_hash_changes_with_every_byte_and_with_the_order(position: int) -> None:
    torch.manual_seed(0)
    octets = torch.randint(0, 256, (4 * ROW + 3,), dtype=torch.uint8)
    plain = row_sums(octets)
    assert plain.shape == (2, 4)
    changed = octets.clone()
    changed[position] ^= 128
    differs = (row_sums(changed) != plain).all(dim=1)
    assert differs.tolist() == [position < 4 * ROW, position >= 4 * ROW]
    swapped = octets.clone()
    swapped[:8] = octets[[4, 5, 6, 7, 0, 1, 2, 3]]
    assert (row_sums(swapped)[0] != plain[0]).all()


def test_two_flipped_signs_do_not_cancel_in_the_device_hash() -> None:
    words = torch.zeros(ROW, dtype=torch.int32)
    words[[3, 7]] = -(2**31)
    assert (row_sums(words.view(torch.uint8)) != 0).all()


def test_the_fingerprint_knows_type_and_shape_and_not_the_strides() -> None:
    tensor = torch.arange(12, dtype=torch.float32).reshape(3, 4)
    assert fingerprint(tensor) == fingerprint(tensor.T.contiguous().T)
    others = (tensor.reshape(4, 3), tensor.view(torch.int32), tensor.T)
    assert len({fingerprint(tensor), *map(fingerprint, others)}) == 4


@pytest.fixture
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("cache_script", ROOT / "scripts" / "cache.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_script_lists_and_prunes(
    script: ModuleType, cache: SpectralCache, weights: dict[str, Tensor], capsys: pytest.CaptureFixture[str]
) -> None:
    cached_bottom_subspaces(weights, 8, cache=cache)
    old, _, broken = files(cache)
    truncate(broken)
    os.utime(old, (time.time() - 10 * 86400,) * 2)
    folder = ["--folder", str(cache.folder)]
    assert script.main(folder) == 0
    shown = capsys.readouterr().out
    assert "tiny" in shown and "90 x 40" in shown and "(damaged)" in shown and "10 d" in shown and "3 files" in shown
    assert script.main([*folder, "--older-than", "9"]) == 0
    assert "removed 1 files" in capsys.readouterr().out and not old.exists()
    assert script.main([*folder, "--max-gb", "1"]) == 0
    assert "removed 0 files" in capsys.readouterr().out
    assert script.main([*folder, "--all"]) == 0
    assert files(cache) == []
    with pytest.raises(SystemExit):
        script.main([*folder, "--max-gb", "-1"])
