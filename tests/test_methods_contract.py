"""What every method promises, whatever it is: one contract, all methods, a small encoder and a small decoder."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from method_cases import Case, base_model, batch, cases, logits, train
from safetensors.torch import load_file

from kasa_corda.methods import METHODS

HERE = Path(__file__).resolve().parent
every = pytest.mark.parametrize("case", cases(), ids=str)
LEARNING_RATE = 5e-3
"""high enough for every method to show that it learns on models this small"""


@every
def test_the_forward_pass_starts_unchanged_where_the_method_promises_it(case: Case) -> None:
    apart = (logits(case.adapted().model, case.kind) - logits(case.base(), case.kind)).abs().max()
    if case.facts.identity:
        assert apart <= 2e-5
    else:
        assert 1e-6 < apart < 10, "it is unchanged: say so in facts.identity"


@every
def test_only_what_the_method_trains_changes(case: Case) -> None:
    adapted = case.adapted()
    model = adapted.model
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trained, "nothing trains"
    train(adapted, case.kind, 10, LEARNING_RATE)
    after = model.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    buffers = {name for name, _ in model.named_buffers()}
    assert changed - trained <= buffers, "frozen parameters changed"
    base_names = {name for name, _ in case.base().named_buffers()}
    assert not changed & base_names
    unmoved = {name for name in trained - changed if before[name].numel()}
    assert not unmoved, "trainable parameters never moved"


@every
def test_one_batch_can_be_learned(case: Case) -> None:
    losses = train(case.adapted(), case.kind, 60, LEARNING_RATE)
    assert all(loss == loss for loss in losses)
    assert min(losses[-5:]) < losses[0] - 0.02


@every
def test_a_seed_decides_everything(case: Case) -> None:
    runs = [case.adapted(seed=3), case.adapted(seed=3)]
    losses = []
    for run in runs:
        torch.manual_seed(1)
        losses.append(train(run, case.kind, 4))
    assert losses[0] == losses[1]
    states = [run.method.trained_state(run.model) for run in runs]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@every
def test_a_checkpoint_restores_the_trained_state(case: Case) -> None:
    adapted = case.adapted()
    train(adapted, case.kind, 3)
    kept = {name: tensor.clone() for name, tensor in adapted.method.trained_state(adapted.model).items()}
    there = logits(adapted.model, case.kind)
    train(adapted, case.kind, 3, LEARNING_RATE)
    adapted.method.restore(adapted.model, kept)
    assert torch.equal(logits(adapted.model, case.kind), there)


@every
def test_merging_gives_the_same_function_without_adapter(case: Case) -> None:
    adapted = case.adapted()
    train(adapted, case.kind, 5, LEARNING_RATE)
    expected = logits(adapted.model, case.kind)
    before = {name: tensor.clone() for name, tensor in adapted.model.state_dict().items()}
    if not case.facts.merges:
        with pytest.raises(Exception, match="merge"):
            adapted.method.merge(copy.deepcopy(adapted.model))
        return
    merged = adapted.method.merge(copy.deepcopy(adapted.model))
    assert torch.allclose(logits(merged, case.kind), expected, atol=2e-4, rtol=1e-4)
    plain = {name.removeprefix("base_model.model.") for name in case.base().state_dict()}
    assert {name.removeprefix("base_model.model.") for name in merged.state_dict()} == plain
    assert all(torch.equal(before[name], tensor) for name, tensor in adapted.model.state_dict().items())


@every
def test_it_trains_under_autocast_and_with_gradient_checkpointing(case: Case) -> None:
    adapted = case.adapted()
    model = adapted.model.train()
    adapted.method.before_step(model, 0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model(**batch(case.kind)).loss.backward()
    narrow = {n: p.grad for n, p in model.named_parameters() if p.requires_grad}
    assert all(g is None or torch.isfinite(g).all() for g in narrow.values())
    assert any(g is not None and g.abs().sum() > 0 for g in narrow.values())

    def gradients() -> dict[str, torch.Tensor]:
        model.zero_grad(set_to_none=True)
        model(**batch(case.kind)).loss.backward()
        return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}

    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    if not case.facts.checkpointing:
        with pytest.raises(Exception, match="gradient_checkpointing"):
            model.gradient_checkpointing_enable({"use_reentrant": False})
        return
    expected = gradients()  # in training mode too: what a method draws for a step counts there only
    model.gradient_checkpointing_enable({"use_reentrant": False})
    found = gradients()
    assert found.keys() == expected.keys()
    assert all(torch.allclose(found[n], expected[n], atol=1e-5, rtol=1e-3) for n in found)


LOADER = """
import json, sys
from pathlib import Path
from safetensors.torch import save_file
from method_cases import Case, logits
found = {}
for entry in json.loads(Path(sys.argv[1]).read_text()):
    case = Case(entry["method"], entry["kind"])
    try:
        found[str(case)] = logits(case.loaded(Path(entry["folder"])), case.kind).contiguous()
    except Exception as error:
        print(f"{case}: {type(error).__name__}: {error}", file=sys.stderr)
save_file(found, sys.argv[2])
"""


@pytest.fixture(scope="module")
def reloaded(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor], str]:
    """Logits of every trained method before saving and, in another process, after loading; what loading complained."""
    root = tmp_path_factory.mktemp("saved")
    entries, expected = [], {}
    complaints = []
    for case in cases():
        try:
            adapted = case.adapted()
            train(adapted, case.kind, 3, LEARNING_RATE)
            expected[str(case)] = logits(adapted.model, case.kind)
            adapted.method.save(adapted.model, root / str(case), "small")
        except Exception as error:  # one method's failure is not that of all
            complaints.append(f"{case}: not saved: {error!r}")
            continue
        entries.append({"method": case.method, "kind": case.kind, "folder": str(root / str(case))})
    (root / "entries.json").write_text(json.dumps(entries))
    paths = [str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", LOADER, str(root / "entries.json"), str(root / "logits.safetensors")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    return expected, load_file(root / "logits.safetensors"), "\n".join([*complaints, done.stderr])


@pytest.mark.xdist_group("reloaded")
@every
def test_a_fresh_process_loads_what_was_saved(case: Case, reloaded: tuple) -> None:
    expected, found, complaints = reloaded
    assert str(case) in found, "\n".join(line for line in complaints.splitlines() if line.startswith(str(case)))
    assert torch.allclose(found[str(case)], expected[str(case)], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", METHODS.names())
def test_the_facts_are_stated(name: str) -> None:
    facts = METHODS[name].facts
    assert facts.source and facts.trains and facts.family in FAMILIES
    assert all(reason and not reason.endswith(".") for reason in facts.refuses.values())


FAMILIES = ("low rank", "spectral", "bottleneck", "prompt", "scaling", "orthogonal", "selection", "none")


def test_the_small_models_are_what_the_contract_assumes() -> None:
    for kind in ("encoder", "decoder"):
        assert torch.equal(logits(base_model(kind), kind), logits(base_model(kind), kind))
