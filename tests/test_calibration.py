"""Calibration: which samples are chosen, and that covariances are what the layers' inputs say they are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from conftest import WORDS
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import ARCHITECTURES, ENCODERS, small
from torch import nn

from kasa_corda.calibration import Moments, NotStreamableError, collect_covariances, stream
from kasa_corda.calibration.covariance import Accumulator, BatchMask
from kasa_corda.calibration.samples import choose
from kasa_corda.calibration.settings import CalibrationConfig, check_calibration
from kasa_corda.calibration.sources import SOURCES, RunData, Texts
from kasa_corda.errors import ConfigError, DataError, KasaCordaError

OUTSIDE = {"bert": ["pooler.dense", "classifier"], "roberta": ["classifier.dense"], "deberta-v2": ["classifier"]}


def model_of(architecture: str) -> nn.Module:
    """A classifier with random weights large enough that blocks matter."""
    from transformers import AutoModelForSequenceClassification

    from kasa_corda.models.empty import transformers_config

    config = transformers_config(small(architecture))
    config.pad_token_id = 0
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(config)
    for parameter in model.parameters():
        parameter.data.normal_(0, 0.2)
    return model.eval()


def targets_of(architecture: str) -> list[str]:
    from kasa_corda.models.architecture import match_targets

    last = ["score"] if architecture not in ENCODERS else OUTSIDE[architecture]
    return [*match_targets(small(architecture), "all_linear"), *last]


def sequences(count: int = 6, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(3, 17, (count,), generator=generator).tolist()
    return [torch.randint(1, 20, (length,), generator=generator) for length in lengths]


def batches_of(samples: list[torch.Tensor], size: int, padding: int = 0) -> list[dict[str, torch.Tensor]]:
    """Right-padded batches, each ``padding`` tokens wider than needed."""
    batches = []
    for start in range(0, len(samples), size):
        part = samples[start : start + size]
        ids = torch.zeros(len(part), max(map(len, part)) + padding, dtype=torch.long)
        for row, sample in zip(ids, part, strict=True):
            row[: len(sample)] = sample
        batches.append({"input_ids": ids, "attention_mask": (ids > 0).long()})
    return batches


def assert_same(one, other, relative: float = 0.0) -> None:
    assert one.keys() == other.keys()
    for name, covariance in one.items():
        error = (covariance.matrix - other[name].matrix).norm() / covariance.matrix.norm()
        assert error <= relative, f"{name}: {error:.1e}"
        assert (covariance.tokens, covariance.samples) == (other[name].tokens, other[name].samples)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_streamed_and_whole_model_covariances_are_identical(architecture):
    model, targets, batches = model_of(architecture), targets_of(architecture), batches_of(sequences(), 2)
    whole = collect_covariances(model, batches, targets)
    assert len(whole) == len(targets)
    assert_same(whole, collect_covariances(model, batches, targets, streamed=True))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_padding_and_batch_size_change_nothing_beyond_rounding(architecture):
    model, targets, samples = model_of(architecture), targets_of(architecture)[:-1], sequences()
    for normalisation in ("none", "signed_max", "token"):
        options = {"normalisation": normalisation, "divisor": "calls"}
        alone = collect_covariances(model, batches_of(samples, 1), targets, **options)
        assert_same(alone, collect_covariances(model, batches_of(samples, 6, padding=5), targets, **options), 1e-5)


def test_a_covariance_is_the_second_moment_of_the_layer_inputs():
    model, samples = model_of("llama"), sequences()
    seen = []
    handle = model.model.layers[1].mlp.down_proj.register_forward_hook(lambda m, args, out: seen.append(args[0][0]))
    with torch.no_grad():
        for sample in samples:
            model(input_ids=sample[None])
    handle.remove()
    inputs = torch.cat(seen).double()
    found = collect_covariances(model, batches_of(samples, 3), ["down_proj"], precision="float64")
    covariance = found["model.layers.1.mlp.down_proj"]
    torch.testing.assert_close(covariance.matrix, inputs.T @ inputs, rtol=1e-5, atol=1e-5)
    assert covariance.tokens == len(inputs)


def test_layers_that_read_one_tensor_share_one_covariance():
    found = collect_covariances(model_of("qwen2"), batches_of(sequences(), 2), targets_of("qwen2")[:7])
    groups = {covariance.matrix.data_ptr(): covariance.layers for covariance in found.values()}
    short = [[name.rpartition(".")[2] for name in layers] for layers in groups.values()]
    assert short == [["q_proj", "k_proj", "v_proj"], ["o_proj"], ["gate_proj", "up_proj"], ["down_proj"]]


@given(
    st.integers(1, 4), st.integers(1, 6), st.integers(1, 8), st.sampled_from(["none", "signed_max", "token"]), st.data()
)
@settings(max_examples=40, deadline=None)
def test_masked_tokens_have_no_influence(samples, tokens, width, normalisation, data):
    torch.manual_seed(data.draw(st.integers(0, 99)))
    x = torch.randn(samples, tokens, width)
    mask = torch.rand(samples, tokens) < 0.6
    mask[0, 0] = True
    changed = torch.where(mask[..., None], x, torch.full_like(x, 1e3))
    totals = []
    for inputs in (x, changed):
        accumulator = Accumulator(Moments(normalisation, "tokens"), "layer")
        accumulator.add(inputs, BatchMask(mask))
        totals.append(accumulator.finish())
    torch.testing.assert_close(totals[0].matrix, totals[1].matrix, rtol=0, atol=0)
    assert totals[0].tokens == mask.sum()
    one_by_one = Accumulator(Moments(normalisation, "tokens"), "layer")
    for sample, valid in zip(x, mask, strict=True):
        one_by_one.add(sample[None], BatchMask(valid[None]))
    torch.testing.assert_close(one_by_one.finish().matrix, totals[0].matrix, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("precision", ["auto", "float32", "tf32", "float64", "bfloat16"])
def test_wide_covariances_are_multiplied_in_panels_and_symmetric(precision):
    x = torch.randn(1, 3, 2050, generator=torch.Generator().manual_seed(0))
    accumulator = Accumulator(Moments(precision=precision), "layer")
    accumulator.add(x, BatchMask(torch.ones(1, 3)))
    matrix = accumulator.finish().matrix
    assert matrix.dtype == (torch.float64 if precision == "float64" else torch.float32)
    assert torch.equal(matrix, matrix.T)
    expected = (x[0].T @ x[0]).to(matrix.dtype)
    assert (matrix - expected).norm() / expected.norm() < (6e-3 if precision == "bfloat16" else 1e-6)


def test_sixteen_bit_activations_are_multiplied_without_further_rounding():
    x = torch.randn(1, 50, 8, generator=torch.Generator().manual_seed(0)).bfloat16()
    accumulator = Accumulator(Moments(), "layer")
    accumulator.add(x, BatchMask(torch.ones(1, 50)))
    exact = x[0].double().T @ x[0].double()
    torch.testing.assert_close(accumulator.finish().matrix.double(), exact, rtol=1e-6, atol=1e-6)


def test_divisors_only_scale():
    model, batches = model_of("llama"), batches_of(sequences(), 2)
    plain = collect_covariances(model, batches, ["q_proj"])["model.layers.0.self_attn.q_proj"]
    for divisor, number in (("calls", 6), ("constant_256", 256), ("tokens", plain.tokens)):
        found = collect_covariances(model, batches, ["q_proj"], divisor=divisor)["model.layers.0.self_attn.q_proj"]
        torch.testing.assert_close(found.matrix * number, plain.matrix)


def test_a_calibration_mask_leaves_prompts_out_but_the_model_sees_them():
    model, sample = model_of("llama"), torch.arange(1, 9)[None]
    mask = torch.tensor([[0, 0, 0, 1, 1, 1, 1, 1]])
    found = collect_covariances(model, [{"input_ids": sample, "calibration_mask": mask}], ["q_proj", "down_proj"])
    whole = collect_covariances(model, [{"input_ids": sample}], ["q_proj", "down_proj"])
    prompt = collect_covariances(model, [{"input_ids": sample[:, :3]}], ["q_proj", "down_proj"])
    for name, covariance in found.items():
        assert covariance.tokens == 5
        torch.testing.assert_close(covariance.matrix + prompt[name].matrix, whole[name].matrix, rtol=1e-4, atol=1e-5)


def test_nan_activations_name_the_layer_and_no_hook_stays():
    model = model_of("bert")
    model.bert.encoder.layer[0].intermediate.dense.weight.data[0] = torch.nan
    for streamed in (False, True):
        with pytest.raises(KasaCordaError, match=r"layer\.0\.output\.dense are NaN"):
            collect_covariances(model, batches_of(sequences(), 2), ["output.dense", "query"], streamed=streamed)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_hooks_go_and_training_mode_stays_after_an_error():
    model = model_of("bert").train()
    with pytest.raises(IndexError):
        collect_covariances(model, [{"input_ids": torch.full((1, 4), 999)}], ["query"])
    assert not any(module._forward_pre_hooks for module in model.modules())
    assert all(module.training for module in model.modules())


class BetweenBlocks(nn.Module):
    """Does something between its blocks, so that they can't be run by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(2))
        self.embedding = nn.Embedding(20, 4)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        return self.layers[1](self.layers[0](self.embedding(input_ids)) * 2)


def test_a_model_whose_blocks_cannot_be_run_by_hand_is_refused():
    with pytest.raises(NotStreamableError, match="changes the hidden states between its blocks"):
        list(stream(BetweenBlocks(), batches_of(sequences(), 2), ["layers.0"], Moments()))


def test_changing_a_block_after_it_was_yielded_does_not_change_the_next():
    batches, targets = batches_of(sequences(), 2), ["q_proj", "down_proj"]
    expected = collect_covariances(model_of("llama"), batches, targets)
    model, found = model_of("llama"), {}
    for part in stream(model, batches, targets, Moments()):
        found |= part.covariances
        for layer in part.layers.values():
            layer.weight.data.zero_()
    assert_same(expected, found)


def test_offloaded_hidden_states_and_finished_blocks():
    model, batches = model_of("llama"), batches_of(sequences(), 2)
    expected = collect_covariances(model, batches, ["q_proj"])
    done = {"model.layers.0"}
    parts = {
        p.name: dict(p.covariances) for p in stream(model, batches, ["q_proj"], Moments(), finished=done.__contains__)
    }
    assert parts["model.layers.0"] == {}
    name = "model.layers.1.self_attn.q_proj"
    assert torch.equal(parts["model.layers.1"][name].matrix, expected[name].matrix)


# Samples


@pytest.fixture(scope="module")
def tokenizer(tiny_bert: Path):
    from kasa_corda.models.loading import load_tokenizer

    return load_tokenizer(tiny_bert)


TEXTS = Texts("a list", [" ".join(WORDS[i // 6**digit % 6] for digit in range(6)) for i in range(0, 20000, 100)])


def test_the_choice_is_seeded_and_its_fingerprint_tells_choices_apart(tokenizer):
    for reading in ("single", "windows"):
        config = CalibrationConfig(reading=reading, samples=5, length=8, seed=1)
        first, again = choose([TEXTS], config, tokenizer), choose([TEXTS], config, tokenizer)
        other = choose([TEXTS], CalibrationConfig(reading=reading, samples=5, length=8, seed=2), tokenizer)
        assert first.fingerprint == again.fingerprint != other.fingerprint
        assert first.described()["fingerprint"] == first.fingerprint


def test_single_texts_are_whole_and_windows_have_exactly_the_length(tokenizer):
    single = choose([TEXTS], CalibrationConfig(samples=7, length=64), tokenizer)
    assert {len(row["input_ids"]) for row in single.rows} == {8}
    windows = choose([TEXTS], CalibrationConfig(reading="windows", samples=7, length=16), tokenizer)
    assert [len(row["input_ids"]) for row in windows.rows] == [16] * 7
    assert windows.tokens == 7 * 16
    (batch,) = windows.batches()
    assert batch["input_ids"].shape == (7, 16)


def test_several_origins_are_mixed_in_equal_parts(tokenizer):
    other = Texts("another", ["so dull"] * 50)
    chosen = choose([TEXTS, other], CalibrationConfig(samples=9, length=64), tokenizer)
    assert sorted(len(row["input_ids"]) for row in chosen.rows) == [4] * 4 + [8] * 5


def test_candidate_sets_are_different_draws_and_part_of_the_fingerprint(tokenizer):
    one = choose([TEXTS], CalibrationConfig(samples=5), tokenizer)
    three = choose([TEXTS], CalibrationConfig(samples=5, candidates=3), tokenizer)
    assert three.rows == one.rows
    assert len(three.alternatives) == len(three.alternative_batches()) == 2
    assert three.rows != three.alternatives[0] != three.alternatives[1]
    assert three.fingerprint != one.fingerprint


def test_too_few_texts_are_noted_and_none_is_an_error(tokenizer):
    chosen = choose([TEXTS], CalibrationConfig(samples=1000), tokenizer)
    assert len(chosen.rows) == 200
    assert "200 texts, fewer than the 1,000 wanted" in chosen.notes[0]
    with pytest.raises(DataError, match="the calibration set is empty: nothing holds no text"):
        choose([Texts("nothing", [" "])], CalibrationConfig(), tokenizer)


def test_texts_shorter_than_one_window_are_named(tokenizer):
    config = CalibrationConfig(reading="windows", length=2048)
    with pytest.raises(
        DataError, match=r"from a list hold .* characters.*calibration\.length=2048.*use calibration\.length=\d+"
    ):
        choose([TEXTS], config, tokenizer)


def test_every_source_reads_its_published_layout(tmp_path):
    files = {
        "nq_open/NQ-open.efficientqa.dev.1.1.jsonl": '{"question": "who", "answer": ["x"]}\n{"question": "when"}\n',
        "triviaqa/wikipedia-train.json": json.dumps({"Data": [{"Question": "who"}, {"Question": "when"}]}),
        "webqs/WebQuestions-train.txt": '{"answer": ["x"], "question": "who"}\n{"answer": [], "question": "when"}\n',
        "wikitext2/wiki.train.raw": "who\n\n \nwhen\n",
        "c4/c4-train.00000.json": '{"text": "who"}\n{"text": "when"}\n',
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(content)
    for name in files:
        (found,) = SOURCES[name.partition("/")[0]](CalibrationConfig()).load(RunData(data_dir=tmp_path))
        assert found.texts == ["who", "when"]
    (found,) = SOURCES["nq_open"](CalibrationConfig()).load(RunData(data_dir=tmp_path))
    assert "not on training data" in found.notes[0]
    config = CalibrationConfig(source="file", path=str(tmp_path / "c4/c4-train.00000.json"))
    assert SOURCES["file"](config).load(RunData())[0].texts == ["who", "when"]


def test_named_tasks_give_their_training_texts(tiny_glue, tokenizer):
    config = CalibrationConfig(source="tasks", tasks=["glue/sst2", "glue/mrpc"], samples=6)
    materials = SOURCES["tasks"](config).load(RunData(data_dir=tiny_glue))
    assert [len(material.texts) for material in materials] == [216, 216]
    chosen = choose(materials, config, tokenizer)
    assert len(chosen.rows) == 6
    assert all("labels" not in row for row in chosen.rows)


def test_wrong_requests_are_refused_before_anything_is_loaded(tmp_path):
    from kasa_corda.config.schema import ModelConfig

    model = ModelConfig(name="m", max_positions=64)
    for changes, message in (
        ({"source": "nq_opn"}, "did you mean nq_open"),
        ({"source": "tasks"}, "needs names"),
        ({"source": "tasks", "tasks": ["glue/rt"]}, "did you mean glue/rte"),
        ({"source": "file"}, r"needs calibration\.path"),
        ({"source": "file", "path": str(tmp_path / "none.txt")}, "is not a file"),
        ({"source": "nq_open", "tokens": "response"}, "needs a task's own examples"),
        ({"length": 65}, "above the 64 positions"),
    ):
        with pytest.raises((ConfigError, DataError), match=message):
            check_calibration(CalibrationConfig(**{"length": 64, **changes}), model)


@pytest.mark.parametrize("name", ["cache", "past_key_values"])
def test_a_block_is_called_without_a_cache_whatever_its_name(name: str) -> None:
    from kasa_corda.calibration.blocks import split

    _, call = split((torch.ones(1),), {name: object(), "attention_mask": None})
    assert call.kwargs == {"attention_mask": None}
