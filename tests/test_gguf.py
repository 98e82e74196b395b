"""A GGUF file becomes a plain folder once, with exactly the values that its quantisation stands for."""

from __future__ import annotations

import json

import gguf
import numpy as np
import pytest
import torch

from kasa_corda.errors import DataError
from kasa_corda.models import gguf as conversion
from kasa_corda.models import packages
from kasa_corda.models.cache import RECORD
from kasa_corda.models.fingerprint import sampled_fingerprint
from kasa_corda.models.loading import load_model
from kasa_corda.models.packages import Package

HIDDEN, INNER, HEADS, LAYERS = 64, 96, 2, 2
TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "a", "b", "c", "ab", "Ġ", "Ġa"]
TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"


def write_gguf(path) -> dict[str, np.ndarray]:
    """A random llama with Q4_1 linear layers; returns the multiplied-out float32 values by GGUF name."""
    writer = gguf.GGUFWriter(path, "llama")
    for name, value in (("block_count", LAYERS), ("context_length", 32), ("embedding_length", HIDDEN)):
        getattr(writer, f"add_{name}")(value)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(100000.0)
    writer.add_vocab_size(len(TOKENS))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(TOKENS)
    writer.add_token_types([3, 3, 3, *[1] * (len(TOKENS) - 3)])
    writer.add_token_merges(["a b", "Ġ a"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template(TEMPLATE)
    draw = np.random.default_rng(0)
    values = {}
    shapes = {"token_embd": (len(TOKENS), HIDDEN), "output_norm": (HIDDEN,)}
    for layer in range(LAYERS):
        shapes |= {f"blk.{layer}.{norm}_norm": (HIDDEN,) for norm in ("attn", "ffn")}
        shapes |= {f"blk.{layer}.attn_{part}": (HIDDEN, HIDDEN) for part in ("q", "k", "v", "output")}
        shapes |= {f"blk.{layer}.ffn_{part}": (INNER, HIDDEN) for part in ("gate", "up")}
        shapes[f"blk.{layer}.ffn_down"] = (HIDDEN, INNER)
    for name, shape in shapes.items():
        weight = draw.standard_normal(shape, dtype=np.float32)
        if len(shape) == 1:
            writer.add_tensor(f"{name}.weight", weight)
            values[name] = weight
            continue
        packed = gguf.quants.quantize(weight, gguf.GGMLQuantizationType.Q4_1)
        writer.add_tensor(f"{name}.weight", packed, raw_dtype=gguf.GGMLQuantizationType.Q4_1)
        values[name] = gguf.quants.dequantize(packed, gguf.GGMLQuantizationType.Q4_1)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return values


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A package 'tiny' whose GGUF lies unpacked in the cache already; the values it holds."""
    monkeypatch.setenv("KASA_CORDA_CACHE", str(tmp_path))
    package = Package("tiny", "1", "tiny.whl", 1, "0" * 64, "MIT", "a model", {}, gguf="tiny.Q4_1.gguf")
    monkeypatch.setitem(packages.PACKAGES, "tiny", package)
    folder = packages.package_folder("tiny")
    folder.mkdir(parents=True)
    values = write_gguf(folder / "tiny.Q4_1.gguf")
    size = (folder / "tiny.Q4_1.gguf").stat().st_size
    (folder / RECORD).write_text(json.dumps({"files": {"tiny.Q4_1.gguf": size}}))
    return values


def config(**changes) -> dict:
    shape = {"layers": LAYERS, "hidden_size": HIDDEN, "intermediate_size": INNER, "heads": HEADS}
    return {"name": "tiny", "architecture": "llama", "package": "tiny", "approximation": "4 bits", **shape, **changes}


def test_weights_are_the_multiplied_out_values_and_nothing_is_rounded_again(tiny):
    loaded = load_model(config(), None, None)
    weights = loaded.model.state_dict()
    assert loaded.source == "package tiny 1"
    assert loaded.notes == ["4 bits"]
    for layer in range(LAYERS):
        for theirs, ours in (
            ("ffn_down", "mlp.down_proj"),
            ("attn_v", "self_attn.v_proj"),
            ("ffn_norm", "post_attention_layernorm"),
        ):
            expected = torch.from_numpy(tiny[f"blk.{layer}.{theirs}"])
            assert torch.equal(weights[f"model.layers.{layer}.{ours}.weight"], expected)
    assert torch.equal(weights["model.embed_tokens.weight"], torch.from_numpy(tiny["token_embd"]))
    assert torch.equal(loaded.model.lm_head.weight, loaded.model.model.embed_tokens.weight)
    assert loaded.model.dtype == torch.float32


def test_tokenizer_chat_template_and_generation_config_are_kept(tiny):
    loaded = load_model(config(), None, None)
    assert loaded.tokenizer.chat_template == TEMPLATE
    assert loaded.tokenizer.convert_ids_to_tokens(loaded.tokenizer("ab a")["input_ids"]) == ["ab", "Ġa"]
    assert loaded.tokenizer.pad_token is not None
    settings = loaded.model.generation_config
    assert (settings.eos_token_id, settings.pad_token_id) == (2, loaded.tokenizer.pad_token_id)


def test_the_conversion_runs_once_and_gives_the_same_fingerprint_everywhere(tiny, monkeypatch):
    folder = conversion.ensure_model("tiny")
    first = sampled_fingerprint(folder)
    assert "transformers_version" not in (folder / "config.json").read_text()
    (folder / "model.safetensors").unlink()
    assert sampled_fingerprint(conversion.ensure_model("tiny")) == first
    monkeypatch.setattr(conversion, "convert", None)
    assert conversion.ensure_model("tiny") == folder


def test_a_gguf_that_cant_be_read_leaves_nothing_behind(tiny, tmp_path):
    file = packages.package_folder("tiny") / "tiny.Q4_1.gguf"
    file.write_bytes(bytes(file.stat().st_size))
    with pytest.raises(DataError, match=r"tiny\.Q4_1\.gguf can't be converted"):
        conversion.ensure_model("tiny")
    assert [path.name for path in (tmp_path / "models").iterdir() if not path.name.endswith(".lock")] == []
