"""Layer shapes, sizes and targets from the config fields, against transformers and against published counts."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import yaml

from kasa_corda.errors import ConfigError
from kasa_corda.models.architecture import ARCHITECTURES, PRESETS, linear_shapes, match_targets, target_names
from kasa_corda.models.size import parameter_count

CONFIGS = sorted((Path(__file__).resolve().parents[1] / "configs" / "model").glob("*.yaml"))
MODELS = {path.stem: yaml.safe_load(path.read_text()) for path in CONFIGS if path.stem != "local"}

PUBLISHED = {
    "roberta_base": (2, 124_647_170),
    "roberta_large": (2, 355_361_794),
    "deberta_v3_base": (2, 184_423_682),
    "gpt2_medium": (None, 354_823_168),
    "gpt2_large": (None, 774_030_080),
    "llama2_7b": (None, 6_738_415_616),
    "llama3_8b": (None, 8_030_261_248),
    "mistral_7b": (None, 7_241_732_096),
    "gemma_7b": (None, 8_537_680_896),
}
"""as in the methods' papers and repositories: outputs of the head (None: language model), all parameters"""


def small(architecture: str, **changes) -> dict:
    sizes = {"layers": 2, "hidden_size": 32, "intermediate_size": 48, "heads": 4, "vocab_size": 50, "max_positions": 20}
    return {"name": "small", "architecture": architecture, **sizes, **changes}


def small_models() -> list:
    models = [small(name) for name in ARCHITECTURES]
    for name in ("llama", "mistral", "gemma", "qwen2"):
        models += [small(name, kv_heads=2), small(name, kv_heads=1, head_dim=16)]
    return [pytest.param(model, id="-".join(map(str, model.values()))) for model in models]


def real_models() -> list:
    return [pytest.param(model, id=name) for name, model in MODELS.items()]


def transformers_shapes(model) -> dict:
    """(out, in) of every nn.Linear and Conv1D of the base model; a Conv1D stores its weight (in, out)."""
    import torch
    from transformers.pytorch_utils import Conv1D

    shapes = {}
    for name, module in model.base_model.named_modules():
        if isinstance(module, torch.nn.Linear):
            shapes[name] = tuple(module.weight.shape)
        elif isinstance(module, Conv1D):
            shapes[name] = tuple(module.weight.shape)[::-1]
    return shapes


def count(model) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("config", [*small_models(), *real_models()])
def test_shapes_and_parameter_counts_are_those_of_transformers(config):
    from kasa_corda.models.empty import empty_model

    classifier, _ = empty_model(config, 3, "classification")
    assert transformers_shapes(classifier) == linear_shapes(config)
    assert count(classifier) == parameter_count(config, 3)
    if ARCHITECTURES[config["architecture"]].kind == "decoder":
        language_model, head = empty_model(config, None, None)
        assert transformers_shapes(language_model) == linear_shapes(config)
        assert count(language_model) == parameter_count(config, None)
        assert head == []


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameter_counts_are_the_published_ones(name):
    labels, parameters = PUBLISHED[name]
    assert parameter_count(MODELS[name], labels) == parameters


@pytest.mark.parametrize(
    ("name", "targets", "rank", "trainable"),
    [
        ("roberta_base", "qv", 8, 294_912),
        ("gpt2_medium", "qv", 4, 393_216),
        ("mistral_7b", "all_linear", 64, 167_772_160),
        ("mistral_7b", "five", 32, 56_623_104),
        ("gemma_7b", "five", 32, 68_812_800),
        ("gemma_7b", "all_linear", 128, 400_031_744),
        ("llama3_8b", "five", 32, 56_623_104),
    ],
)
def test_lora_parameters_of_the_presets_are_the_published_ones(name, targets, rank, trainable):
    assert sum(rank * sum(shape) for shape in match_targets(MODELS[name], targets).values()) == trainable


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_written_out_as_a_list_matches_the_same_layers(architecture, preset):
    model = small(architecture)
    names = target_names(architecture, preset)
    assert match_targets(model, names) == match_targets(model, preset)
    assert len(match_targets(model, preset)) == model["layers"] * len(names)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("preset", PRESETS)
def test_peft_adapts_exactly_the_matched_layers(architecture, preset):
    from peft import LoraConfig, get_peft_model

    from kasa_corda.models.empty import empty_model

    config = small(architecture)
    model, _ = empty_model(config, 2, "classification")
    names = match_targets(config, preset)
    adapted = get_peft_model(model, LoraConfig(target_modules=list(names), fan_in_fan_out=architecture == "gpt2"))
    prefix = f"base_model.model.{ARCHITECTURES[architecture].prefix}."
    found = {name.removeprefix(prefix).removesuffix(".lora_A") for name, _ in adapted.named_modules()}
    assert {name for name in found if name in linear_shapes(config)} >= set(names)
    assert sum(name.endswith(".lora_A") for name, _ in adapted.named_modules()) == len(names)


def test_all_linear_of_an_encoder_is_its_six_layers_without_the_pooler():
    names = list(match_targets(small("bert", layers=1), "all_linear"))
    assert [name.removeprefix("encoder.layer.0.") for name in names] == [
        "attention.self.query",
        "attention.self.key",
        "attention.self.value",
        "attention.output.dense",
        "intermediate.dense",
        "output.dense",
    ]


def test_a_bare_output_dense_matches_both_layers_of_a_block_and_the_written_out_name_one():
    model = small("roberta", layers=1)
    both = ["encoder.layer.0.attention.output.dense", "encoder.layer.0.output.dense"]
    assert list(match_targets(model, ["output.dense"])) == both
    assert list(match_targets(model, ["layer.*.output.dense"])) == both[1:]


def test_names_match_at_dots_only_and_never_twice():
    model = small("llama", layers=12)
    assert list(match_targets(model, ["layers.1.self_attn.q_proj"])) == ["layers.1.self_attn.q_proj"]
    assert len(match_targets(model, ["q_proj", "self_attn.q_proj"])) == 12
    with pytest.raises(ConfigError):
        match_targets(model, ["proj"])


def test_a_string_is_a_name_or_a_pattern_for_the_whole_name():
    model = small("bert")
    assert match_targets(model, "query") == match_targets(model, ["query"])
    relative = match_targets(model, r"encoder\.layer\.1\..*(query|key)")
    assert list(relative) == ["encoder.layer.1.attention.self.query", "encoder.layer.1.attention.self.key"]
    assert match_targets(model, r"bert\.encoder\.layer\.1\..*(query|key)") == relative


@pytest.mark.parametrize(
    ("targets", "said"),
    [
        ("qurey", "method.target_modules=qurey matches no linear layer of model=small (bert); did you mean query"),
        (["query", "vlaue"], "method.target_modules=vlaue matches no linear layer"),
        (["qv"], "method.target_modules=qv matches no linear layer"),
        ("q_proj", "Valid: qv, five, all_linear, kv_down, attention.self.query"),
        ("all-linear", "did you mean all_linear"),
        ("(", "method.target_modules=( is neither a layer name nor a regular expression"),
        ([], "method.target_modules=[] must be qv"),
        (None, "method.target_modules=None must be qv"),
        ([3], "method.target_modules=[3] must be qv"),
        ([""], "must be qv"),
    ],
)
def test_targets_that_match_nothing_are_named_with_the_nearest_layers(targets, said):
    with pytest.raises(ConfigError) as error:
        match_targets(small("bert"), targets)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"architecture": "berd"}, "model.architecture=berd is unknown; did you mean"),
        ({"hidden_size": "???"}, "model.hidden_size is missing"),
        ({"layers": None}, "model.layers is missing"),
        ({"layers": 0}, "model.layers=0 must be a whole number of at least 1"),
        ({"heads": 2.5}, "model.heads=2.5 must be a whole number"),
        ({"heads": 5}, "model.hidden_size=32 is not a multiple of model.heads=5"),
        ({"kv_heads": 3}, "model.heads=4 is not a multiple of model.kv_heads=3"),
    ],
)
def test_sizes_that_make_no_sense_are_said(changes, said):
    with pytest.raises(ConfigError) as error:
        linear_shapes(small("bert") | changes)
    assert said in str(error.value)


def test_an_unknown_preset_is_said():
    with pytest.raises(ConfigError, match=r"method\.target_modules=qvv is unknown; did you mean qv"):
        target_names("bert", "qvv")


def test_any_subset_of_written_names_matches_its_union():
    model = small("qwen2")
    names = [name for name, *_ in ARCHITECTURES["qwen2"].linears]
    draw = random.Random(0)
    for _ in range(20):
        chosen = draw.sample(names, draw.randint(1, len(names)))
        expected = {name for single in chosen for name in match_targets(model, [single])}
        assert set(match_targets(model, chosen)) == expected


def test_an_encoder_has_no_language_model():
    from kasa_corda.models.empty import empty_model

    with pytest.raises(ConfigError, match="is an encoder and can't generate text"):
        empty_model(small("bert"), None, None)


@pytest.mark.parametrize(
    ("architecture", "pooler", "head"),
    [
        ("bert", "frozen", ["classifier"]),
        ("deberta-v2", "frozen", ["classifier"]),
        ("deberta-v2", "trained", ["pooler", "classifier"]),
        ("llama", "frozen", ["score"]),
    ],
)
def test_the_head_is_what_training_adds(architecture, pooler, head):
    from kasa_corda.models.empty import empty_model

    assert empty_model(small(architecture, pooler=pooler), 2, "classification")[1] == head
