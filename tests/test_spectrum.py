"""The spectrum tool: what it measures, on matrices whose answer is known, and the script as a user runs it."""

from __future__ import annotations

import csv
import runpy
import subprocess
import sys

import pytest
import torch
from conftest import ROOT

from kasa_corda.spectrum.discard import activation_scales, discard_curve, discarding, left_vectors, weight_of
from kasa_corda.spectrum.layers import layer_spectrum, overlap


def matrix(out: int, into: int, values: list[float]) -> torch.Tensor:
    torch.manual_seed(0)
    U = torch.linalg.qr(torch.randn(out, len(values), dtype=torch.float64))[0]
    V = torch.linalg.qr(torch.randn(into, len(values), dtype=torch.float64))[0]
    return (U * torch.tensor(values)) @ V.T


def test_the_cut_takes_the_smallest_values_and_their_energy():
    found = layer_spectrum("layer", matrix(6, 9, [5.0, 4.0, 3.0, 2.0, 1.0, 0.5]), 2)
    assert found.before.tolist() == pytest.approx([5, 4, 3, 2, 1, 0.5])
    assert found.after.tolist() == pytest.approx([5, 4, 3, 2, 0, 0], abs=1e-9)
    assert found.energy_cut == pytest.approx(1.25 / 55.25)


def test_a_covariance_of_one_scale_leaves_the_plain_directions():
    W = matrix(9, 6, [5.0, 4.0, 3.0, 2.0, 1.0, 0.5])
    found = layer_spectrum("layer", W, 2, "largest", 3 * torch.eye(6))
    assert found.alignment_ipa == pytest.approx(1)
    assert found.alignment_kpa == pytest.approx(1)
    assert found.condition == pytest.approx(1)
    assert found.after.tolist() == pytest.approx([3, 2, 1, 0.5, 0, 0], abs=1e-9)


def test_overlap_of_orthogonal_subspaces_is_zero():
    axes = torch.eye(6)
    assert overlap(axes[:, :2], axes[:, 2:4]) == 0
    assert overlap(axes[:, :2], axes[:, 1:3]) == 0.5


@pytest.mark.parametrize("shape", [(8, 12), (12, 8)])
def test_corda_loses_least_of_the_outputs_of_its_own_calibration(shape):
    torch.manual_seed(1)
    W = torch.randn(*shape, dtype=torch.float64)
    X = torch.randn(shape[1], 400, dtype=torch.float64) * torch.logspace(0, 3, shape[1], dtype=torch.float64)[:, None]
    C = X @ X.T / 400
    lost = {}
    for way in ("plain", "asvd", "corda"):
        cut = left_vectors(W, way, C, X.abs().mean(1))[:, -3:]
        lost[way] = float((cut @ (cut.T @ W) @ C).norm())
    assert lost["corda"] == min(lost.values())
    best = torch.linalg.svdvals(W @ C)[-3:].norm()  # Eckart-Young
    assert lost["corda"] == pytest.approx(float(best))


def test_discarding_puts_the_weights_back_to_the_bit():
    layer = torch.nn.Linear(6, 8)
    before = layer.weight.detach().clone()
    vectors = {"layer": left_vectors(layer.weight.detach(), "plain")}
    with torch.no_grad(), discarding({"layer": layer}, vectors, 2):
        assert torch.linalg.matrix_rank(layer.weight) == 4
    assert torch.equal(layer.weight, before)


def test_the_curve_starts_with_the_untouched_model_and_scales_see_no_padding(folders):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folders("llama"))
    targets = ["model.layers.0.self_attn.q_proj", "model.layers.1.mlp.down_proj"]
    ids = torch.randint(3, 20, (2, 5))
    whole = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    padded = {name: torch.nn.functional.pad(t, (0, 3)) for name, t in whole.items()}
    scales, same = activation_scales(model, [whole], targets), activation_scales(model, [padded], targets)
    for name in targets:
        torch.testing.assert_close(scales[name], same[name])

    def score() -> dict[str, float]:
        with torch.no_grad():
            return {"loss": float(model(**whole, labels=ids).loss)}

    before = score()
    covariances = {name: torch.eye(weight_of(model.get_submodule(name)).shape[1]) for name in targets}
    points = discard_curve(model, targets, [0, 4, 16], score, covariances=covariances, scales=scales)
    assert [(p.way, p.discarded) for p in points] == [(w, r) for w in ("plain", "asvd", "corda") for r in (0, 4, 16)]
    assert all(p.scores == before for p in points if p.discarded == 0)
    by_way = {p.way: p.scores["loss"] for p in points if p.discarded == 16}
    assert by_way["plain"] == pytest.approx(by_way["corda"])  # C = I changes nothing
    assert by_way["plain"] != pytest.approx(before["loss"], abs=1e-6)
    assert score() == before


def run(folder, *arguments):
    command = [sys.executable, str(ROOT / "scripts" / "spectrum.py"), *arguments, "--out", str(folder / "spectrum")]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)


def test_the_script_writes_table_and_figures(tmp_path, tiny_bert):
    done = run(tmp_path, "model=local", f"model.path={tiny_bert}", "method=kasa", "method.rank=4", "task.max_length=64")
    assert done.returncode == 0, done.stderr
    with (tmp_path / "spectrum" / "layers.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4
    assert all(0 < float(row["energy_cut"]) < 0.1 for row in rows)
    for name in ("spectrum.png", "spectrum.svg"):
        assert (tmp_path / "spectrum" / name).stat().st_size > 1000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["method=full"], "method=full adapts no layers"),
        (["method=kasa", "--discard", "4"], "--discard compares with CorDA"),
        (["method=corda_kpa", "--discard", "x"], "--discard x must be whole numbers"),
        (["method=corda_kpa", "--discard", "99999"], "below the smallest layer side"),
        (["method=kasaa"], "did you mean kasa"),
        (["method=kasa", "--text", "nowhere.txt"], "--text nowhere.txt can't be read"),
    ],
)
def test_wrong_requests_are_one_sentence(monkeypatch, capsys, arguments, message):
    monkeypatch.setattr(sys, "argv", ["spectrum.py", *arguments])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(ROOT / "scripts" / "spectrum.py"), run_name="__main__")
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
