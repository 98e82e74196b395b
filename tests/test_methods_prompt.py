"""Virtual tokens that nothing outside the method notices: losses, logits, padding, caches, generation, storage."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from method_cases import Case, base_model, batch, logits, train
from safetensors.torch import load_file
from small_language_model import byte_tokenizer, small_llama
from small_models import small

from kasa_corda.api import Adapted, adapt
from kasa_corda.cli.compose import composed
from kasa_corda.config.validate import validate
from kasa_corda.errors import ConfigError, Unfit
from kasa_corda.evaluation._greedy import Stopping, greedy
from kasa_corda.evaluation._likelihood import summed_nll
from kasa_corda.evaluation.perplexity import perplexity
from kasa_corda.methods import METHODS
from kasa_corda.models.empty import transformers_config
from kasa_corda.models.key_values import NAME, cache_in
from kasa_corda.plan import counted

PROMPTS = ["prefix_tuning", "prompt_tuning", "p_tuning"]
INPUTS = PROMPTS[1:]
every = pytest.mark.parametrize("method", PROMPTS)


def model_of(architecture: str, labels: bool = False, **changes: Any) -> Any:
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    config = transformers_config(small(architecture, **changes))
    config.pad_token_id, config.initializer_range = 0, 0.2
    torch.manual_seed(0)
    return (AutoModelForSequenceClassification if labels else AutoModelForCausalLM).from_config(config).eval()


def adapted_to(model: Any, method: str, **options: Any) -> Adapted:
    torch.manual_seed(3)
    return adapt(model, method, tokens=3, **options)


def evaluated(model: Any, method: str, **options: Any) -> Any:
    return adapted_to(model, method, **options).model.eval()


def right_padded(ids: list[list[int]]) -> dict[str, torch.Tensor]:
    longest = max(map(len, ids))
    return {
        "input_ids": torch.tensor([row + [0] * (longest - len(row)) for row in ids]),
        "attention_mask": torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in ids]),
    }


ROWS = [[5, 6, 7, 8, 9], [10, 11, 12]]


@pytest.mark.parametrize(
    ("model", "method", "expected", "options"),
    [
        ("roberta_base", "prefix_tuning", 368_640, []),
        ("roberta_large", "prefix_tuning", 983_040, []),
        ("roberta_base", "prefix_tuning", 9_864_704, ["method.projection=true", "method.projection_size=512"]),
        ("roberta_base", "prompt_tuning", 15_360, []),
        ("deberta_v3_base", "prompt_tuning", 15_360, []),
        ("llama2_7b", "prefix_tuning", 7_864_320, ["method.tokens=30"]),
        ("llama2_7b", "prompt_tuning", 40_960, ["method.tokens=10"]),
        ("llama3_8b", "prefix_tuning", 1_966_080, ["method.tokens=30"]),  # grouped-query attention: 8 of 32 heads
        ("gpt2_medium", "prefix_tuning", 245_760, ["method.tokens=5"]),
    ],
)
def test_the_trainable_count_is_the_computed_one(model: str, method: str, expected: int, options: list[str]) -> None:
    task = "gsm8k" if model.startswith(("llama", "gpt2")) else "glue/sst2"
    config = composed([f"task={task}", f"model={model}", f"method={method}", *options])
    assert counted(config, 0)[1]["adapter"] == expected


@every
@pytest.mark.parametrize("architecture", ["llama", "gpt2", "qwen2", "gemma"])
def test_logits_and_loss_of_a_language_model_line_up_with_its_tokens(method: str, architecture: str) -> None:
    model = evaluated(model_of(architecture, kv_heads=2), method)
    inputs = right_padded(ROWS)
    labels = inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, -100)
    out = model(**inputs, labels=labels)
    assert out.logits.shape == (2, 5, 20)
    expected = torch.nn.functional.cross_entropy(out.logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
    assert torch.allclose(out.loss, expected, atol=1e-6)
    sums, counts = summed_nll(model, {**inputs, "labels": labels})
    assert counts.tolist() == [4, 2]
    assert sums.sum().item() == pytest.approx(6 * expected.item(), rel=1e-5)


@every
@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_a_language_models_prompt_is_what_plain_peft_computes(method: str, architecture: str, tmp_path: Path) -> None:
    from peft import PeftModel

    trained = adapted_to(model_of(architecture), method)
    train(trained, "decoder", 3, 1e-2)
    trained.method.save(trained.model, tmp_path, "small")
    inputs = right_padded(ROWS)
    with torch.no_grad():
        ours = trained.model.eval()(**inputs).logits
        theirs = PeftModel.from_pretrained(model_of(architecture), tmp_path).eval()(**inputs).logits[:, -5:]
    real = inputs["attention_mask"].bool()
    assert torch.allclose(ours[real], theirs[real], atol=1e-5)


@every
@pytest.mark.parametrize("architecture", ["roberta", "bert"])
def test_an_encoder_is_what_plain_peft_computes_with_the_tokens_placed_first(
    method: str, architecture: str, tmp_path: Path
) -> None:
    from peft import PeftModel

    placed = {"placement": "first"} if method in INPUTS else {}
    trained = adapted_to(model_of(architecture, labels=True), method, **placed)
    train(trained, "encoder", 3, 1e-2)
    trained.method.save(trained.model, tmp_path, "small")
    plain = PeftModel.from_pretrained(model_of(architecture, labels=True), tmp_path).eval()
    if method == "prefix_tuning":
        # peft 0.21's own forward pass refuses the encoders of transformers 5.24, which call the cache by another name
        plain = Prefixed(plain)
    torch.testing.assert_close(logits(plain, "encoder"), logits(trained.model, "encoder"), atol=1e-5, rtol=1e-4)


class Prefixed(torch.nn.Module):
    """A plain PEFT model's base with the keys and values that PEFT makes of its prefix."""

    def __init__(self, plain: Any) -> None:
        super().__init__()
        self.plain = plain

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Any:
        keys_and_values = self.plain.get_prompt(len(input_ids))
        ones = attention_mask.new_ones(len(input_ids), self.plain.active_peft_config.num_virtual_tokens)
        mask = torch.cat([ones, attention_mask], 1)
        return self.plain.base_model(input_ids=input_ids, attention_mask=mask, **{NAME: keys_and_values})


@pytest.mark.parametrize("method", INPUTS)
@pytest.mark.parametrize("architecture", ["roberta", "bert", "deberta-v2"])
def test_an_encoders_head_reads_its_own_first_token(method: str, architecture: str) -> None:
    trained = adapted_to(model_of(architecture, labels=True), method)
    seen: list[torch.Tensor] = []
    trained.model.get_input_embeddings().register_forward_hook(lambda module, inputs, output: seen.append(output))
    logits_of(trained.model, [[7, 8, 9]])
    bare = model_of(architecture, labels=True).get_input_embeddings()(torch.tensor([[7, 8, 9]]))
    assert torch.allclose(seen[-1][:, [0, 4, 5]], bare) and not torch.allclose(seen[-1][:, 1], bare[:, 1])
    assert "follow the first token" in trained.method.report()["notes"][0]


def logits_of(model: Any, ids: list[list[int]]) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(**right_padded(ids)).logits


@every
@pytest.mark.parametrize("architecture", ["roberta", "bert", "llama", "gpt2"])
def test_a_classifiers_answer_does_not_depend_on_the_padding_of_its_batch(method: str, architecture: str) -> None:
    """A decoder's head reads the last token, which PEFT's embeddings don't let it find."""
    model = evaluated(model_of(architecture, labels=True), method)
    together = logits_of(model, ROWS)
    assert torch.allclose(together, torch.cat([logits_of(model, [row]) for row in ROWS]), atol=1e-5)


@every
@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_a_cache_gives_the_logits_of_the_whole_text_whatever_the_padding(method: str, architecture: str) -> None:
    model = evaluated(model_of(architecture), method)
    ids = torch.tensor([[5, 6, 7, 8, 9]])
    with torch.no_grad():
        whole = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
        left = torch.tensor([[0, 0, 5, 6, 7]])
        mask = torch.tensor([[0, 0, 1, 1, 1]])
        position = (mask.cumsum(-1) - 1).clamp(min=0)
        options = {"use_cache": True, "logits_to_keep": 1}
        out = model(input_ids=left, attention_mask=mask, position_ids=position, **options)
        assert torch.allclose(out.logits[:, -1], whole[:, 2], atol=1e-5)
        for step, at in ((8, 3), (9, 4)):
            mask = torch.cat([mask, torch.ones(1, 1, dtype=mask.dtype)], 1)
            out = model(
                input_ids=torch.tensor([[step]]),
                attention_mask=mask,
                position_ids=torch.tensor([[at]]),
                **{NAME: cache_in(out)},
                **options,
            )
            assert torch.allclose(out.logits[:, -1], whole[:, at], atol=1e-5)


@every
def test_generation_and_perplexity_run_on_virtual_tokens(method: str) -> None:
    tokenizer = byte_tokenizer()
    model = evaluated(small_llama(), method)
    prompts = [tokenizer(text)["input_ids"] for text in ("a longer question?", "short?")]
    together = greedy(model, tokenizer, prompts, Stopping(6))
    assert together == [greedy(model, tokenizer, [prompt], Stopping(6))[0] for prompt in prompts]
    expected = greedy_without_cache(model, tokenizer, prompts[1], 6)
    assert together[1] == expected
    found = perplexity(model, tokenizer, ["one text", "and another"], window=16)
    assert found.tokens > 10 and found.value > 1


def greedy_without_cache(model: Any, tokenizer: Any, prompt: list[int], steps: int) -> str:
    ids = list(prompt)
    for _ in range(steps):
        token = int(logits_of(model, [ids])[0, -1].argmax())
        if token == tokenizer.eos_token_id:
            break
        ids.append(token)
    return tokenizer.decode(ids[len(prompt) :], skip_special_tokens=True, clean_up_tokenization_spaces=False)


@every
@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_nothing_that_a_run_does_warns(method: str, kind: str, tmp_path: Path) -> None:
    case = Case(method, kind)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", FutureWarning)
        adapted = case.adapted()
        train(adapted, kind, 2, 5e-3)
        adapted.method.save(adapted.model, tmp_path, "small")
        loaded = case.loaded(tmp_path)
        assert torch.isfinite(loaded(**batch(kind)).loss)


@every
def test_the_task_head_trains_at_its_own_rate_and_everything_else_is_frozen(method: str) -> None:
    model, chosen = adapted_to(base_model("encoder"), method)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert all("prompt_encoder" in name or "classifier.modules_to_save" in name for name in trained)
    assert any("classifier" in name for name in trained)
    groups = chosen.parameter_groups(model, 0.3)
    assert [group["lr"] for group in groups] == [0.3, 1e-3]


@pytest.mark.parametrize("method", INPUTS)
def test_debertas_fresh_pooler_stays_frozen_and_is_stored(method: str, tmp_path: Path) -> None:
    from kasa_corda.methods.base import AdaptContext

    chosen = METHODS[method]
    instance = chosen(chosen.Config(name=method, tokens=3))
    context = AdaptContext([], ["classifier"], "SEQ_CLS", seed=0, total_steps=10, frozen=["pooler"])
    model: Any = instance.adapt(model_of("deberta-v2", labels=True), context)
    assert not any(p.requires_grad for n, p in model.named_parameters() if "pooler" in n)
    instance.save(model, tmp_path, "small")
    stored = load_file(tmp_path / "adapter_model.safetensors")
    assert {"pooler", "classifier"} <= {part for name in stored for part in name.split(".")}
    other = model_of("deberta-v2", labels=True)
    torch.nn.init.normal_(other.pooler.dense.weight)
    loaded = chosen(chosen.Config(name=method, tokens=3)).load(other, tmp_path)
    assert torch.allclose(logits(loaded, "encoder"), logits(model, "encoder"), atol=1e-6)


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("prefix_tuning", {"projection": True, "projection_size": 8}),
        ("p_tuning", {"encoder": "mlp"}),
        ("p_tuning", {"encoder": "lstm", "encoder_size": 8}),
    ],
)
def test_the_network_that_makes_the_tokens_is_not_stored(method: str, options: dict[str, Any], tmp_path: Path) -> None:
    trained = adapted_to(base_model("decoder"), method, **options)
    train(trained, "decoder", 3, 5e-3)
    trained.method.save(trained.model, tmp_path, "small")
    stored = sum(tensor.numel() for tensor in load_file(tmp_path / "adapter_model.safetensors").values())
    assert stored == (3 * 2 * 2 * 32 if method == "prefix_tuning" else 3 * 32)
    assert f"{stored:,} are stored" in trained.method.report()["notes"][-1]
    chosen = METHODS[method]
    loaded = chosen(chosen.Config(name=method, tokens=3, **options)).load(base_model("decoder"), tmp_path)
    assert torch.allclose(logits(loaded, "decoder"), logits(trained.model, "decoder"), atol=1e-6)


@every
def test_merging_is_refused_with_the_reason(method: str) -> None:
    model, chosen = adapted_to(base_model("decoder"), method)
    with pytest.raises(ConfigError, match="virtual tokens are inputs, not weights"):
        chosen.merge(model)


def test_a_prefix_is_refused_where_it_can_not_work() -> None:
    with pytest.raises(ConfigError, match="deberta-v2 models: its attention takes no keys"):
        adapt(model_of("deberta-v2", labels=True), "prefix_tuning")
    config = composed(["task=glue/sst2", "model=roberta_base", "method=prefix_tuning"])
    validate(config)
    config.trainer.gradient_checkpointing = True
    with pytest.raises(Unfit, match="gradient_checkpointing"):
        validate(config)


@every
def test_virtual_tokens_count_towards_the_positions_of_the_model(method: str) -> None:
    config = composed(["task=glue/sst2", "model=roberta_base", f"method={method}", "task.max_length=492"])
    validate(config)
    config.task.max_length = 493
    with pytest.raises(Unfit, match=r"method\.tokens=20 and the task's 493 tokens"):
        validate(config)
