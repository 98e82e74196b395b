"""Every KaSA preset and control: train, save, load, hand to plain PEFT, merge, export."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
from test_kasa import context, kasa, one_thread  # noqa: F401

from kasa_corda.errors import DataError
from kasa_corda.kasa.layers import adapter, layers
from kasa_corda.kasa.presets import CONTROLS, PRESETS, described
from kasa_corda.methods.base import count_parameters
from kasa_corda.methods.kasa import KasaConfig

SQUARE = ["attention.self.query", "attention.self.value"]
MIXED = [*SQUARE, "intermediate.dense", "output.dense"]
INPUTS = {"input_ids": torch.randint(5, 20, (6, 9), generator=torch.Generator().manual_seed(0))}
LABELS = torch.tensor([0, 1, 0, 1, 1, 0])


def classifier(folder, dtype=torch.float32):
    """The same base model and head at every call."""
    from transformers import AutoModelForSequenceClassification

    torch.manual_seed(0)
    return AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2, dtype=dtype)


def fit(method, model, steps=4, rate=1e-2):
    trainable = [p for p in model.parameters() if p.requires_grad]
    optimizer, losses = torch.optim.AdamW(trainable, lr=rate), []
    model.eval()  # no dropout: the loss is a function of the parameters
    for _ in range(steps):
        loss = model(**INPUTS, labels=LABELS).loss
        losses.append(loss.item())
        loss.backward()
        method.add_auxiliary_gradient(model, 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return losses


def trained(folder, tmp_path, targets=MIXED, dtype=torch.float32, **options):
    method = kasa(**options)
    model = method.adapt(classifier(folder, dtype), context(targets, ["classifier"]))
    fit(method, model)
    method.save(model, tmp_path / "adapter", "base")
    return method, model


def logits(model, **more):
    with torch.no_grad():
        return model.eval()(**INPUTS, **more).logits


def is_peft_kasa(folder):
    return bool(json.loads((folder / "adapter_config.json").read_text()).get("kasa_config"))


def plain_peft(base, folder):
    from peft import PeftModel

    return PeftModel.from_pretrained(base, folder)


@pytest.mark.parametrize("control", CONTROLS)
@pytest.mark.parametrize("variant", PRESETS)
def test_what_was_trained_comes_back_exactly_and_plain_peft_agrees(tiny_bert, tmp_path, variant, control):
    _, model = trained(tiny_bert, tmp_path, variant=variant, control=control)
    want = logits(model)
    again = kasa(variant=variant, control=control).load(classifier(tiny_bert), tmp_path / "adapter")
    assert torch.equal(logits(again), want)
    assert not torch.allclose(logits(classifier(tiny_bert)), want, atol=1e-3)
    peer = plain_peft(classifier(tiny_bert), tmp_path / "adapter")
    torch.testing.assert_close(logits(peer), want, rtol=1e-4, atol=2e-5)
    cuts_as_peft = variant in ("paper", "peft") and control in ("none", "truncation_only", "sigma_frozen")
    assert is_peft_kasa(tmp_path / "adapter") == cuts_as_peft


@pytest.mark.parametrize(
    "options",
    [
        {"variant": "paper"},
        {"variant": "authors_first"},
        {"variant": "paper", "truncation_rank": 2, "scaling": "rslora", "correction": "low_rank"},
        {"variant": "paper", "control": "no_truncation"},
    ],
)
def test_exports_equal_the_trained_model_without_kasa_on_the_other_side(tiny_bert, tmp_path, options):
    from transformers import AutoModelForSequenceClassification

    method, model = trained(tiny_bert, tmp_path, **options)
    want = logits(model)
    method.save_as_lora(model, tmp_path / "lora", "base")
    config = json.loads((tmp_path / "lora" / "adapter_config.json").read_text())
    cut = {"no_truncation": 0}.get(options.get("control"), options.get("truncation_rank", 4))
    assert config["kasa_config"] is None
    assert (config["r"], config["lora_alpha"]) == (4 + cut, 4 + cut)
    torch.testing.assert_close(logits(plain_peft(classifier(tiny_bert), tmp_path / "lora")), want, rtol=1e-4, atol=1e-5)
    method.merge(model).save_pretrained(tmp_path / "merged")
    merged = AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged")
    torch.testing.assert_close(logits(merged), want, rtol=1e-4, atol=1e-5)


def test_a_dense_core_is_folded_into_b_for_plain_peft(tiny_bert, tmp_path):
    from safetensors.torch import load_file

    _, model = trained(tiny_bert, tmp_path, targets=SQUARE, variant="authors_first")
    assert is_peft_kasa(tmp_path / "adapter")
    stored = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    name, layer = next(layers(model))
    _, core, B = adapter(layer)
    assert not torch.equal(core, torch.diag(core.diagonal()))
    torch.testing.assert_close(stored[f"base_model.model.{name}.lora_B.weight"], (B @ core).detach())
    assert (stored[f"base_model.model.{name}.lora_diag"] == 1).all()
    peer = plain_peft(classifier(tiny_bert), tmp_path / "adapter")
    torch.testing.assert_close(logits(peer), logits(model), rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("variant", ["paper", "peft"])
def test_a_bfloat16_base_comes_back_exactly(tiny_bert, tmp_path, variant):
    _, model = trained(tiny_bert, tmp_path, dtype=torch.bfloat16, variant=variant)
    want = logits(model)
    again = kasa(variant=variant).load(classifier(tiny_bert, torch.bfloat16), tmp_path / "adapter")
    assert torch.equal(logits(again), want)
    peer = plain_peft(classifier(tiny_bert, torch.bfloat16), tmp_path / "adapter")
    assert (logits(peer) - want).abs().max() < 0.05 * want.abs().max()


@pytest.mark.parametrize(
    ("architecture", "targets", "is_linear"),
    [("gpt2", ["attn.c_attn", "mlp.c_fc", "mlp.c_proj"], False), ("llama", ["q_proj", "up_proj", "down_proj"], True)],
)
def test_language_models_come_back_too(folders, tmp_path, architecture, targets, is_linear):
    from transformers import AutoModelForCausalLM

    def base():
        return AutoModelForCausalLM.from_pretrained(folders(architecture))

    method = kasa(variant="paper")
    model = method.adapt(base(), context(targets))
    for _, layer in layers(model):
        layer.lora_B["default"].weight.data.normal_(std=0.1)
    method.save(model, tmp_path, "base")
    want = logits(model)
    assert is_peft_kasa(tmp_path) == is_linear
    assert torch.equal(logits(kasa(variant="paper").load(base(), tmp_path)), want)
    torch.testing.assert_close(logits(plain_peft(base(), tmp_path)), want, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(logits(method.merge(model)), want, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("variant", ["paper", "authors_first"])
def test_a_few_examples_are_learnt_by_heart(tiny_bert, variant):
    method = kasa(variant=variant)
    model = method.adapt(classifier(tiny_bert), context(MIXED, ["classifier"]))
    losses = fit(method, model, steps=60, rate=5e-3)
    assert losses[-1] < 0.05 * losses[0]


def test_controls_train_what_their_names_say(tiny_bert):
    def parts(control):
        method = kasa(control=control)
        model = method.adapt(classifier(tiny_bert), context(SQUARE, ["classifier"]))
        names = {n.split(".")[-3 if "lora_A" in n or "lora_B" in n else -2] for n in method.trained_state(model)}
        return names - {"default"}, method, model

    everything = {"lora_A", "lora_B", "lora_diag"}
    for control in ("none", "no_truncation", "cut_largest"):
        assert parts(control)[0] >= everything
    assert not parts("truncation_only")[0] & everything
    assert parts("sigma_frozen")[0] & everything == {"lora_A", "lora_B"}
    assert parts("lora_matched")[0] & everything == {"lora_A", "lora_B"}

    _, method, model = parts("truncation_only")
    assert method.auxiliary_loss(model) is None
    assert len(method.diagnostics) == 4
    _, method, model = parts("no_truncation")
    assert method.diagnostics == []
    assert torch.equal(logits(model), logits(classifier(tiny_bert)))
    largest, smallest = (parts(control)[1].diagnostics for control in ("cut_largest", "none"))
    assert all(a["relative_cut"] > 3 * b["relative_cut"] for a, b in zip(largest, smallest, strict=True))


def test_lora_matched_says_how_close_the_count_is(tiny_bert):
    method = kasa(control="lora_matched", core="dense")
    model = method.adapt(classifier(tiny_bert), context(SQUARE, ["classifier"]))
    counted = count_parameters(model, ["classifier"])["adapter"]
    own = kasa(core="dense")
    wanted = count_parameters(own.adapt(classifier(tiny_bert), context(SQUARE, ["classifier"])), ["classifier"])
    (note,) = method.notes
    assert f"trains {counted:,} adapter parameters" in note
    assert f"KaSA of rank 4 {wanted['adapter']:,}" in note
    assert method.auxiliary_loss(model) is None


def test_a_checkpoint_holds_the_core_and_puts_it_back(tiny_bert):
    method = kasa(variant="authors_first")
    model = method.adapt(classifier(tiny_bert), context(SQUARE, ["classifier"]))
    state = {name: t.clone() for name, t in method.trained_state(model).items()}
    cores = [name for name in state if "lora_diag" in name]
    assert [state[name].shape for name in cores] == [(4, 4)] * 4
    fit(method, model)
    assert not torch.equal(method.trained_state(model)[cores[0]], state[cores[0]])
    method.restore(model, state)
    assert all(torch.equal(value, state[name]) for name, value in method.trained_state(model).items())


def test_the_report_names_switches_and_layers(tiny_bert):
    method = kasa(variant="authors", gram="small")
    method.adapt(classifier(tiny_bert), context(MIXED, ["classifier"]))
    report = json.loads(json.dumps(method.report()))
    assert report["switches"]["gram"] == "small"
    assert report["switches"]["keep"] == "in_features"
    assert len(report["layers"]) == 2 * 5
    assert "2 of 10 layers stay untruncated" in report["notes"][0]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "paper"),
        ({"variant": "authors", "core": "diagonal"}, "authors"),
        ({"variant": "authors", "core": "dense"}, "authors, core=dense"),
        (
            {"variant": "peft", "truncation_rank": 2, "control": "cut_largest"},
            "peft, truncation_rank=2, control=cut_largest",
        ),
    ],
)
def test_tables_show_the_preset_and_what_departs_from_it(options, text):
    assert described(KasaConfig(name="kasa", rank=8, **options)) == text


def test_an_unreadable_adapter_is_named(tiny_bert, tmp_path):
    trained(tiny_bert, tmp_path)
    (tmp_path / "adapter" / "kasa.safetensors").write_bytes(b"cut")
    with pytest.raises(DataError, match="adapter can't be read"):
        kasa().load(classifier(tiny_bert), tmp_path / "adapter")


def test_a_run_shows_its_switches_and_exports_a_lora_for_the_untouched_base(run_py, tiny_bert, tmp_path):
    from kasa_corda.store import find_runs
    from kasa_corda.trained import load_run

    done = run_py(
        "method=kasa", "method.rank=4", "method.variant=authors_first", "method.gram=small", "trainer.max_steps=4"
    )
    assert done.returncode == 0, done.stderr
    assert "kasa (authors_first, gram=small) on" in done.stdout
    (run,) = find_runs(run_py.folder / "runs")
    assert run.result()["switches"]["core"] == "dense"
    script = run_py.run_py.parent / "scripts" / "export.py"
    command = [sys.executable, str(script), str(run.path), "--form", "lora", "--out", str(tmp_path / "lora")]
    exported = subprocess.run(command, capture_output=True, text=True, check=False)
    assert exported.returncode == 0, exported.stderr
    want = logits(load_run(run.path).model)
    torch.testing.assert_close(logits(plain_peft(classifier(tiny_bert), tmp_path / "lora")), want, rtol=1e-4, atol=1e-5)
