"""Bottleneck adapters, BitFit, FT-top and LoReFT: their equations in float64, their counts, their traps."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from small_models import ARCHITECTURES, small
from torch import Tensor, nn
from torch.nn.functional import gelu, relu, silu

from kasa_corda.api import Adapted, adapt
from kasa_corda.cli.compose import composed
from kasa_corda.config.validate import validate
from kasa_corda.errors import ConfigError
from kasa_corda.methods import METHODS
from kasa_corda.methods.base import AdaptContext, count_parameters
from kasa_corda.models.blocks import BLOCK_PARTS, block_names
from kasa_corda.models.empty import empty_model, transformers_config
from kasa_corda.models.families import ARCHITECTURES as FAMILIES
from kasa_corda.models.key_values import NAME, cache_in

BOTTLENECKS = ("houlsby", "pfeiffer", "adapter_l", "adapter_drop", "parallel_adapter", "series_adapter")
OWN = (*BOTTLENECKS, "bitfit", "ft_top", "loreft")
SMALL: dict[str, dict[str, Any]] = {"adapter_drop": {"drop": 1}, "ft_top": {"blocks": 1}}


def base(architecture: str, *, dtype: torch.dtype = torch.float64, seed: int = 1, labels: bool = False) -> Any:
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    config = transformers_config(small(architecture))
    config.pad_token_id = 0
    head = labels or FAMILIES[architecture].kind == "encoder"
    torch.manual_seed(seed)
    model = (AutoModelForSequenceClassification if head else AutoModelForCausalLM).from_config(config).to(dtype)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p), alpha=0.1)
    return model.eval()


def shaken(model: nn.Module, method: str, **options: Any) -> Adapted:
    """Adapted, and every trained parameter moved away from where it starts."""
    adapted = adapt(model, method, **options)
    torch.manual_seed(9)
    with torch.no_grad():
        for p in adapted.model.parameters():
            if p.requires_grad:
                p.add_(torch.randn_like(p), alpha=0.3)
    adapted.model.eval()
    return adapted


def up_down(adapter: Any, x: Tensor, activation: Callable[[Tensor], Tensor]) -> Tensor:
    """Up act(Down x), written out."""
    down, up = adapter.down, adapter.up
    hidden = activation(x @ down.weight.T + (0 if down.bias is None else down.bias))
    return hidden @ up.weight.T + (0 if up.bias is None else up.bias)


def states(model: Any) -> Tensor:
    torch.manual_seed(2)
    return torch.randn(2, 5, model.config.hidden_size, dtype=torch.float64)


def close(found: Tensor, expected: Tensor) -> bool:
    return torch.allclose(found, expected, atol=1e-12, rtol=1e-10)


# the equations, on one post-norm block (RoBERTa) and one pre-norm block (GPT-2)


def post_norm(block: Any, x: Tensor, attention: Callable, ffn: Callable, end: Callable) -> Tensor:
    """A BERT block; the three calls are what a method does to each sub-layer's output and to the last sum."""
    h = attention(block.attention.output.dense(block.attention.self(x)[0]))
    y = block.attention.output.LayerNorm(h + x)
    return end(ffn(block.output.dense(gelu(block.intermediate.dense(y))), y), y)


def pre_norm(block: Any, x: Tensor, attention: Callable, ffn: Callable, end: Callable) -> Tensor:
    y = x + attention(block.attn(block.ln_1(x))[0])
    inner = block.ln_2(y)
    return end(y + ffn(block.mlp.c_proj(block.mlp.act(block.mlp.c_fc(inner))), inner))


def adapters(model: nn.Module) -> list[Any]:
    return [m.adapter for m in model.modules() if isinstance(getattr(m, "wraps", None), str)]


@pytest.mark.parametrize("method", ["houlsby", "pfeiffer", "adapter_l", "parallel_adapter"])
def test_an_encoder_block_is_the_papers_equation(method: str) -> None:
    model = base("roberta")
    plain = copy.deepcopy(model).roberta.encoder.layer[1]
    adapted = shaken(model, method).model
    here = adapters(adapted)
    here = here[len(here) // 2 :]  # those of the second of two blocks
    norm, x = plain.output.LayerNorm, states(model)
    expected = {
        "houlsby": lambda: post_norm(
            plain,
            x,
            lambda h: h + up_down(here[0], h, silu),
            lambda h, y: h + up_down(here[1], h, silu),
            lambda h, y: norm(h + y),
        ),
        "pfeiffer": lambda: post_norm(
            plain,
            x,
            lambda h: h,
            lambda h, y: h,
            lambda h, y: norm(h + y + up_down(here[0], norm(h + y), relu)),
        ),
        "adapter_l": lambda: lin(here[0], post_norm(plain, x, lambda h: h, lambda h, y: h, lambda h, y: norm(h + y))),
        "parallel_adapter": lambda: post_norm(
            plain, x, lambda h: h, lambda h, y: h + 4 * up_down(here[0], y, relu), lambda h, y: norm(h + y)
        ),
    }[method]()
    assert close(adapted.roberta.encoder.layer[1](x), expected)


def lin(adapter: Any, y: Tensor) -> Tensor:
    own = adapter.norm
    centred = y - y.mean(-1, keepdim=True)
    normal = centred / (centred.pow(2).mean(-1, keepdim=True) + own.eps).sqrt() * own.weight + own.bias
    return y + up_down(adapter, normal, relu)


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("houlsby", {}),
        ("houlsby", {"activation": "gelu"}),
        ("pfeiffer", {}),
        ("adapter_l", {}),
        ("parallel_adapter", {}),
        ("parallel_adapter", {"variant": "llm_adapters"}),
        ("series_adapter", {}),
        ("series_adapter", {"variant": "input"}),
    ],
    ids=str,
)
def test_a_decoder_block_is_the_papers_equation(method: str, options: dict[str, Any]) -> None:
    model = base("gpt2")
    plain = copy.deepcopy(model).transformer.h[1]
    adapted = shaken(model, method, **options).model
    here = adapters(adapted)
    here = here[len(here) // 2 :]
    mlp, x = plain.mlp, states(model)
    same: tuple[Callable, Callable, Callable] = (lambda h: h, lambda h, y: h, lambda z: z)
    if method == "houlsby":
        act = gelu if options else silu
        # GPT-2 names its modules in order of the forward pass
        first, second = here
        same = (lambda h: h + up_down(first, h, act), lambda h, y: h + up_down(second, h, act), same[2])
    elif method == "pfeiffer":
        same = (*same[:2], lambda z: z + up_down(here[0], z, relu))
    elif method == "adapter_l":
        same = (*same[:2], lambda z: lin(here[0], z))
    elif options == {"variant": "llm_adapters"}:
        up, down = here

        def ffn(h: Tensor, y: Tensor) -> Tensor:
            inner = mlp.act(mlp.c_fc(y) + up_down(up, y, torch.tanh))
            return mlp.c_proj(inner) + up_down(down, inner, torch.tanh)

        same = (same[0], ffn, same[2])
    elif method == "parallel_adapter":
        same = (same[0], lambda h, y: h + 4 * up_down(here[0], y, relu), same[2])
    elif options == {"variant": "input"}:
        read = lambda y: mlp.c_fc(y + up_down(here[0], y, torch.tanh))  # noqa: E731
        same = (same[0], lambda h, y: mlp.c_proj(mlp.act(read(y))), same[2])
    else:
        same = (same[0], lambda h, y: h + up_down(here[0], h, torch.tanh), same[2])
    assert close(adapted.transformer.h[1](x), pre_norm(plain, x, *same))


def test_loreft_is_the_papers_equation_at_its_positions() -> None:
    model = base("gpt2")
    plain = copy.deepcopy(model)
    adapted = shaken(model, "loreft", rank=3, positions="f1+l1").model
    ids = torch.tensor([[7, 8, 9, 10, 11], [12, 13, 14, 0, 0]])
    mask = (ids > 0).long()
    block = adapted.transformer.h[0]
    R, W, b = block.rotation(), block.source.weight, block.source.bias
    assert torch.allclose(R @ R.T, torch.eye(3, dtype=torch.float64), atol=1e-12)
    seen: list[Tensor] = []
    block.register_forward_hook(lambda module, given, out: seen.append(out))
    plain.transformer.h[0].register_forward_hook(lambda module, given, out: seen.append(out))
    with torch.no_grad():
        adapted(ids, attention_mask=mask)
        plain(ids, attention_mask=mask)
        edited, h = seen
        expected = h.clone()
        for row, positions in enumerate([(0, 4), (0, 2)]):
            for t in positions:
                v = h[row, t]
                expected[row, t] = v + R.T @ (W @ v + b - R @ v)
    assert close(edited, expected)
    assert not torch.allclose(edited[0, 0], h[0, 0])


# counts on the real shapes, without weights

ROBERTA_BASE = [
    ("houlsby", {"bottleneck": 8}, 313_536),
    ("houlsby", {"bottleneck": 64}, 2_379_264),
    ("pfeiffer", {"bottleneck": 16}, 304_320),
    ("pfeiffer", {"bottleneck": 48}, 894_528),
    ("parallel_adapter", {"bottleneck": 16}, 304_320),
    ("adapter_drop", {"bottleneck": 32, "form": "houlsby", "drop": 5}, 699_328),
    ("adapter_drop", {"bottleneck": 48, "drop": 8}, 298_176),
    ("adapter_drop", {"bottleneck": 48, "drop": 8, "variant": "robust"}, 894_528),
    ("loreft", {"rank": 1}, 18_444),
    ("bitfit", {}, 102_144),
    ("houlsby", {"bottleneck": 8, "train_norms": True}, 313_536 + 4 * 768 * 12),
]
COUNTS = [
    *(("roberta_base", *row) for row in ROBERTA_BASE),
    ("roberta_large", "houlsby", {}, 835_968),
    ("roberta_large", "pfeiffer", {}, 811_392),
    ("roberta_large", "pfeiffer", {"bottleneck": 64}, 3_171_840),
    ("roberta_large", "parallel_adapter", {"bottleneck": 8}, 417_984),
    ("roberta_large", "loreft", {"rank": 1}, 49_176),
    ("roberta_large", "bitfit", {}, 271_360),
    ("deberta_v3_base", "houlsby", {"bottleneck": 8}, 313_536),
    ("deberta_v3_base", "pfeiffer", {"bottleneck": 64}, 1_189_632),
    ("deberta_v3_base", "bitfit", {}, 102_912),
    ("gpt2_medium", "bitfit", {}, 271_360),
    ("gpt2_medium", "ft_top", {}, 25_192_448),
    ("gpt2_medium", "adapter_l", {}, 368_784),
    ("gpt2_medium", "adapter_l", {"bottleneck": 224}, 11_089_152),
    ("gpt2_medium", "houlsby", {"bottleneck": 112}, 11_064_576),
    ("llama2_7b", "loreft", {}, 2_097_408),
    ("llama2_7b", "parallel_adapter", {"bottleneck": 256, "variant": "llm_adapters"}, 247_463_936),
    ("llama2_7b", "series_adapter", {"bottleneck": 256}, 67_108_864),
    ("llama2_7b", "series_adapter", {"bottleneck": 256, "variant": "input"}, 134_217_728),
]


@pytest.mark.parametrize(("model", "method", "options", "count"), COUNTS, ids=str)
def test_counts_are_the_published_ones(model: str, method: str, options: dict[str, Any], count: int) -> None:
    from omegaconf import OmegaConf

    config = OmegaConf.load(Path(__file__).parents[1] / "configs" / "model" / f"{model}.yaml")
    encoder = config.kind == "encoder"
    made, head = empty_model(config, 2 if encoder else None, "classification" if encoder else None)
    chosen = METHODS[method]
    context = AdaptContext([], head, "SEQ_CLS" if encoder else "CAUSAL_LM", 0, 0)
    adapted = chosen(chosen.Config(name=method, **options)).adapt(made, context)
    assert count_parameters(adapted, head)["adapter"] == count
    assert all(p.is_meta for p in adapted.parameters())


# every architecture


def pairs() -> Iterator[tuple[str, str]]:
    for method in OWN:
        for architecture in ARCHITECTURES:
            if architecture not in METHODS[method].facts.refuses:
                yield method, architecture


@pytest.mark.parametrize(("method", "architecture"), pairs())
def test_every_family_starts_unchanged_and_learns(method: str, architecture: str) -> None:
    model = base(architecture, dtype=torch.float32)
    ids = torch.tensor([[6, 7, 8, 9, 10, 11], [12, 13, 14, 15, 0, 0]])
    labels = torch.tensor([0, 1]) if FAMILIES[architecture].kind == "encoder" else ids.masked_fill(ids == 0, -100)
    batch = {"input_ids": ids, "attention_mask": (ids > 0).long(), "labels": labels}
    with torch.no_grad():
        before = model(**batch).logits
    adapted = adapt(model, method, **SMALL.get(method, {})).model
    out = adapted(**batch)
    if METHODS[method].facts.identity:
        assert torch.allclose(out.logits, before, atol=1e-5)
    out.loss.backward()
    trained = [p for p in adapted.parameters() if p.requires_grad]
    assert trained and all(p.grad is not None for p in trained)
    assert any(p.grad.abs().sum() > 0 for p in trained)  # type: ignore[union-attr]


def test_the_blocks_of_every_family_have_the_named_parts() -> None:
    assert BLOCK_PARTS.keys() == FAMILIES.keys()
    for architecture, parts in BLOCK_PARTS.items():
        model = base(architecture)
        norms = [n for n, m in model.named_modules() if "norm" in type(m).__name__.lower()]
        for block in block_names(model):
            for name in (parts.attention_end, parts.ffn_end, parts.ffn):
                model.get_submodule(f"{block}.{name}")
            assert [n for n in norms if n.startswith(f"{block}.")] == [f"{block}.{n}" for n in parts.norms]


# traps


def test_the_adapter_comes_behind_dropout() -> None:
    """In front of it, dropout would also drop what the adapter adds."""
    model = base("roberta")
    plain = copy.deepcopy(model)
    adapted = shaken(model, "houlsby").model
    layer = adapted.roberta.encoder.layer[0].attention.output
    layer.dropout.base.p = 1.0
    first = adapters(adapted)[0]
    x, h = states(model), states(model) + 1
    expected = plain.roberta.encoder.layer[0].attention.output.LayerNorm(x + up_down(first, torch.zeros_like(h), silu))
    layer.train()
    assert close(layer(h, x), expected)


@pytest.mark.parametrize("init", ["houlsby", "bert", "linear"])
def test_the_published_initialisations_start_near_identity_only(init: str) -> None:
    model = base("bert", dtype=torch.float32)
    ids = torch.tensor([[6, 7, 8]])
    with torch.no_grad():
        before = model(ids).logits
        after = adapt(model, "houlsby", init=init).model(ids).logits
    assert 0 < (after - before).abs().max() < 1
    weights = [a.up.weight for a in adapters(model)]
    limit = {"houlsby": 0.02, "bert": 0.1, "linear": 8**-0.5}[init]
    assert all(0 < w.abs().max() <= limit for w in weights)


def test_half_precision_bases_get_float32_adapters() -> None:
    model = base("llama", dtype=torch.bfloat16)
    adapted = adapt(model, "houlsby").model
    ids = torch.tensor([[6, 7, 8]])
    out = adapted(ids, labels=ids)
    out.loss.backward()
    assert out.logits.dtype == torch.bfloat16
    assert {p.dtype for p in adapted.parameters() if p.requires_grad} == {torch.float32}


@pytest.mark.parametrize("architecture", ["llama", "mistral", "gemma"])
def test_bitfit_is_refused_where_there_are_no_biases(architecture: str) -> None:
    with pytest.raises(ConfigError, match="no biases"):
        adapt(base(architecture), "bitfit")


def test_bitfit_is_refused_before_a_run_starts() -> None:
    with pytest.raises(ConfigError, match="llama models: its layers have no biases"):
        validate(composed(["method=bitfit", "model=smollm2_135m", "task=gsm8k"]))


def test_bitfit_trains_biases_and_the_head_only() -> None:
    model = adapt(base("deberta-v2"), "bitfit").model
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert {n for n in trained if not n.endswith(".bias")} == {"classifier.weight"}
    assert not any("pooler" in name for name in trained), "a fresh pooler is random and stays frozen"
    assert "deberta.encoder.LayerNorm.bias" in trained


def test_qwen_has_only_three_biases_a_block_for_bitfit() -> None:
    model = adapt(base("qwen2"), "bitfit").model
    trained = [name.rsplit(".", 2)[1] for name, p in model.named_parameters() if p.requires_grad]
    assert trained == ["q_proj", "k_proj", "v_proj"] * 2


def test_ft_top_leaves_embeddings_and_final_norm_alone() -> None:
    model = adapt(base("gpt2"), "ft_top", blocks=1).model
    assert all(p.requires_grad == name.startswith("transformer.h.1.") for name, p in model.named_parameters())
    with pytest.raises(ConfigError, match=r"method.blocks=3 .* use method.blocks=2"):
        adapt(base("gpt2"), "ft_top", blocks=3)


# AdapterDrop


def test_fixed_adapter_drop_has_no_adapters_in_the_first_blocks() -> None:
    model = adapt(base("roberta"), "adapter_drop", drop=1).model
    assert not adapters(model.roberta.encoder.layer[0]) and len(adapters(model.roberta.encoder.layer[1])) == 1
    with pytest.raises(ConfigError, match=r"method.drop=2 leaves no adapter .* use method.drop=1"):
        adapt(base("roberta"), "adapter_drop", drop=2)


def test_robust_adapter_drop_draws_from_seed_and_step_alone() -> None:
    model, method = adapt(base("roberta"), "adapter_drop", variant="robust", drop=0, seed=4)
    other = adapt(base("roberta"), "adapter_drop", variant="robust", drop=0, seed=4).method
    drawn = [method.drawn(model, step) for step in range(40)]
    torch.manual_seed(11)
    assert drawn == [other.drawn(model, step) for step in range(40)]
    assert set(drawn) == {0, 1}


@pytest.mark.parametrize("form", ["pfeiffer", "houlsby"])
def test_a_robust_run_is_evaluated_at_any_number_of_dropped_blocks(form: str) -> None:
    model, method = shaken(base("roberta"), "adapter_drop", variant="robust", drop=0, form=form)
    ids = torch.tensor([[6, 7, 8, 9]])
    with torch.no_grad():
        method.drop_first(model, 1, training=False)
        found = model(ids).logits
        silent = copy.deepcopy(model)
        method.drop_first(silent, 0, training=False)
        everything = silent(ids).logits
        for adapter in adapters(silent.roberta.encoder.layer[0]):
            adapter.up.weight.zero_()
            adapter.up.bias.zero_()
        assert close(found, silent(ids).logits)
    assert not torch.allclose(found, everything)


def test_dropped_adapters_get_a_gradient_of_zero_and_change_nothing() -> None:
    """Several processes wait for every parameter's gradient; none would hang them."""
    model, method = shaken(base("gpt2"), "adapter_drop", variant="robust", drop=0)
    method.drop_first(model, 1, training=True)
    ids = torch.tensor([[6, 7, 8, 9]])
    first, second = adapters(model)
    model(ids, labels=ids).loss.backward()
    assert first.up.weight.grad.abs().sum() > 0, "evaluation mode keeps its own number"
    model.zero_grad()
    model.train()
    model(ids, labels=ids).loss.backward()
    assert all(p.grad is not None and not p.grad.any() for p in first.parameters())
    assert second.up.weight.grad.abs().sum() > 0


# LoReFT


def edited(mask: list[list[int]], labels: list[list[int]] | None, first: int, last: int) -> list[list[int]]:
    from kasa_corda.methods._loreft_layers import Positions

    given = None if labels is None else torch.tensor(labels)
    return Positions(first, last).of(torch.tensor(mask), given).long().tolist()


def test_loreft_positions_respect_padding_on_either_side() -> None:
    assert edited([[1, 1, 1, 1, 1], [1, 1, 1, 1, 0]], None, 1, 2) == [[1, 0, 0, 1, 1], [1, 0, 1, 1, 0]]
    assert edited([[0, 1, 1, 1, 1], [0, 0, 0, 1, 1]], None, 1, 1) == [[0, 1, 0, 0, 1], [0, 0, 0, 1, 1]]
    assert edited([[1, 1, 0]], None, 7, 7) == [[1, 1, 0]], "each position once, however short the prompt"
    assert edited([[1, 1, 1]], None, 1, 0) == [[1, 0, 0]]


def test_loreft_edits_the_prompt_not_the_response() -> None:
    assert edited([[1] * 6], [[-100, -100, -100, 5, 6, 7]], 1, 1) == [[1, 0, 1, 0, 0, 0]]
    assert edited([[0, 1, 1, 1, 1, 1]], [[-100] * 4 + [6, 7]], 1, 1) == [[0, 1, 0, 1, 0, 0]]
    assert edited([[1] * 4], [[-100, 5, 6, 7]], 1, 1) == [[1, 0, 0, 1]], "supervised throughout: all is prompt"
    from kasa_corda.methods._loreft_layers import Positions

    of_whole_texts = Positions(1, 0).of(torch.ones(2, 3), torch.tensor([0, 1]))
    assert of_whole_texts.tolist() == [[True, False, False]] * 2


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_generation_from_a_cache_edits_the_prompt_only(architecture: str) -> None:
    model = shaken(base(architecture), "loreft", rank=2, positions="f1+l2").model
    prompt = torch.tensor([[6, 7, 8, 9]])
    ids, cache, step = prompt, None, prompt
    with torch.no_grad():
        for _ in range(5):
            out = model(step, attention_mask=torch.ones_like(ids), use_cache=True, **{NAME: cache})
            cache, step = cache_in(out), out.logits[:, -1:].argmax(-1)
            marks = torch.full_like(ids, -100)
            marks[:, 4:] = ids[:, 4:]
            whole = model(ids, attention_mask=torch.ones_like(ids), prompt_labels=marks, use_cache=False).logits
            assert close(out.logits[:, -1], whole[:, -1])
            ids = torch.cat([ids, step], 1)
        unmarked = model(ids[:, :-1], use_cache=False).logits
    assert not torch.allclose(unmarked[:, -1], whole[:, -1])


def test_answers_are_scored_with_the_edits_of_their_prompts() -> None:
    from kasa_corda.evaluation._likelihood import summed_nll

    model = shaken(base("llama"), "loreft", rank=2, positions="f1+l1").model
    ids = torch.tensor([[6, 7, 8, 9, 10, 11], [12, 13, 14, 15, 16, 0]])
    labels = ids.clone()
    labels[:, :3] = -100
    labels[1, 5] = -100
    batch = {"input_ids": ids, "attention_mask": (ids > 0).long(), "labels": labels}
    with torch.no_grad():
        sums, counts = summed_nll(model, batch)
        loss = model(**batch).loss
        blind = model(**{k: v for k, v in batch.items() if k != "labels"}).logits
        seen = model(**batch).logits
    assert torch.allclose(sums.sum() / counts.sum(), loss.double(), atol=1e-6)
    assert not torch.allclose(blind[0, 3:], seen[0, 3:])


def test_loreft_rows_stay_orthonormal_while_training() -> None:
    model = adapt(base("roberta"), "loreft", rank=4, positions="f1").model
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=0.05, weight_decay=0.1)
    start = model.roberta.encoder.layer[0].rotation().detach().clone()
    ids = torch.tensor([[6, 7, 8, 9], [10, 11, 12, 13]])
    for _ in range(5):
        model(ids, labels=torch.tensor([0, 1])).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    R = model.roberta.encoder.layer[0].rotation()
    assert torch.allclose(R @ R.T, torch.eye(4, dtype=torch.float64), atol=1e-12)
    assert not torch.allclose(R, start, atol=1e-3)


def test_loreft_can_be_kept_to_some_layers() -> None:
    model = adapt(base("roberta"), "loreft", layers=[1]).model
    assert not hasattr(model.roberta.encoder.layer[0], "rows")
    assert hasattr(model.roberta.encoder.layer[1], "rows")
    for options in ({"layers": [2]}, {"layers": []}, {"rank": 33}, {"positions": "7"}, {"positions": "f0"}):
        with pytest.raises(ConfigError, match=next(iter(options))):
            adapt(base("roberta"), "loreft", **options)


# stored adapters


@pytest.mark.parametrize("method", ["houlsby", "loreft", "bitfit", "ft_top"])
def test_stored_files_hold_what_trained_and_nothing_of_the_base(method: str, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    options = SMALL.get(method, {})
    model = base("roberta")
    adapted = shaken(model, method, train_norms=True) if method == "houlsby" else shaken(model, method, **options)
    adapted.method.save(adapted.model, tmp_path, "small")
    stored = load_file(tmp_path / "adapter.safetensors")
    trained = {name for name, p in adapted.model.named_parameters() if p.requires_grad}
    assert stored.keys() == trained
    if method in ("houlsby", "loreft"):
        assert not any("wraps" in name or name.endswith("dense.weight") for name in stored if "classifier" not in name)
    chosen = METHODS[method]
    again = chosen(chosen.Config(**asdict(adapted.method.config))).load(base("roberta"), tmp_path).eval()
    ids = torch.tensor([[6, 7, 8, 9]])
    with torch.no_grad():
        assert torch.equal(again(ids).logits, adapted.model(ids).logits)
