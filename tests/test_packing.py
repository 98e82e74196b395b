"""Examples packed into rows: kept apart, with the loss and gradients of padded ones."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from conftest import compose
from hypothesis import given, settings
from hypothesis import strategies as st
from small_language_model import save_language_model, write_gsm8k
from small_models import small

from kasa_corda.batches import IGNORED, Collator, loss_weight
from kasa_corda.errors import ConfigError, KasaCordaError
from kasa_corda.launch import launch, prepare
from kasa_corda.packing import PackingCollator, check_isolation, packed_rows, packing_collator

VOCABULARY = 40
TOKENIZER = SimpleNamespace(padding_side="right", pad_token_id=0)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=60), st.integers(1, 40))
@settings(deadline=None, max_examples=60)
def test_every_example_is_in_one_row_and_rows_are_not_overfull(lengths, capacity):
    rows = packed_rows(lengths, capacity)
    assert sorted(i for row in rows for i in row) == list(range(len(lengths)))
    assert all(len(row) == 1 or sum(lengths[i] for i in row) <= capacity for row in rows)
    if max(lengths) <= capacity:
        assert sum(sum(lengths[i] for i in row) * 2 <= capacity for row in rows) <= 1


def examples(count: int = 7) -> list[dict]:
    """Rows of different lengths, with prompts of different lengths that are not learned; one learns its first token."""
    generator = torch.Generator().manual_seed(3)
    made = []
    for number in range(count):
        length = 2 + (5 * number) % 13
        ids = torch.randint(1, VOCABULARY, (length,), generator=generator).tolist()
        start = number % length
        labels = [IGNORED] * start + ids[start:]
        made.append({"input_ids": ids, "attention_mask": [1] * length, "labels": labels})
    return made


def test_rows_hold_positions_that_begin_anew_and_padding_that_teaches_nothing():
    batch = PackingCollator(TOKENIZER, 6)(
        [
            {"input_ids": [5, 6, 7], "labels": [IGNORED, 6, 7]},
            {"input_ids": [8, 9, 10, 11], "labels": [IGNORED] * 3 + [11]},
            {"input_ids": [12, 13], "labels": [12, 13]},
        ]
    )
    assert batch["input_ids"].tolist() == [[8, 9, 10, 11, 12, 13], [5, 6, 7, 0, 0, 0]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 3, 0, 1], [0, 1, 2, 0, 1, 2]]
    none = IGNORED
    assert batch["labels"].tolist() == [[none, none, none, 11, none, 13], [none, 6, 7, none, none, none]]


def model_of(architecture: str, attention: str = "sdpa"):
    from transformers import AutoModelForCausalLM

    from kasa_corda.models.empty import transformers_config

    config = transformers_config(small(architecture, vocab_size=VOCABULARY))
    config.initializer_range, config.pad_token_id, config.eos_token_id, config.bos_token_id = 0.2, 0, 1, None
    for name in ("resid_pdrop", "embd_pdrop", "attn_pdrop"):
        if hasattr(config, name):
            setattr(config, name, 0.0)
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config, attn_implementation=attention)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("architecture", ["llama", "gpt2", "mistral", "gemma", "qwen2"])
def test_loss_and_gradients_are_those_of_padded_rows(architecture, attention):
    model, rows = model_of(architecture, attention), examples()
    packed = packing_collator(model, TOKENIZER, 16)
    found = []
    for batch in (Collator(TOKENIZER)(rows), {**packed(rows), "use_cache": False}):
        model.zero_grad()
        loss = model(**batch).loss
        loss.backward()
        found.append((loss.detach(), {name: p.grad.clone() for name, p in model.named_parameters()}))
    (padded_loss, padded), (packed_loss, grads) = found
    torch.testing.assert_close(packed_loss, padded_loss, rtol=1e-5, atol=1e-5)
    for name, gradient in padded.items():
        torch.testing.assert_close(grads[name], gradient, rtol=1e-4, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")
    assert packed(rows)["input_ids"].shape[0] < len(rows)


def test_parts_of_a_batch_weigh_as_their_tokens():
    model, rows, collate = model_of("llama"), examples(8), PackingCollator(TOKENIZER, 16)
    weights = [loss_weight(row) - (row["labels"][0] != IGNORED) for row in rows]
    with torch.no_grad():
        whole = model(**collate(rows), use_cache=False).loss
        halves = [(sum(weights[i] for i in part), model(**collate([rows[i] for i in part]), use_cache=False).loss)
                  for part in (range(4), range(4, 8))]  # fmt: skip
    torch.testing.assert_close(sum(w * loss for w, loss in halves) / sum(weights), whole)


class Leaky(torch.nn.Module):
    """A model that drops what keeps examples apart."""

    def __init__(self, model, **dropped) -> None:
        super().__init__()
        self.model, self.config, self.dropped = model, model.config, dropped

    def forward(self, **inputs):
        return self.model(**{**inputs, **self.dropped})


@pytest.mark.parametrize(
    "dropped", [{"position_ids": None}, {"use_cache": True}, {"attention_mask": torch.ones(1, 32)}]
)
def test_a_model_that_looks_across_examples_is_refused(dropped):
    model = model_of("llama")
    check_isolation(model, VOCABULARY)
    with pytest.raises(KasaCordaError, match="does not keep the examples of a row apart"):
        check_isolation(Leaky(model, **dropped), VOCABULARY)


def test_flash_attention_gets_all_examples_in_one_row():
    model = model_of("llama")
    assert packing_collator(model, TOKENIZER, 16).capacity == 16
    leaky = Leaky(model)
    leaky.config = SimpleNamespace(_attn_implementation="flash_attention_2", vocab_size=VOCABULARY)
    assert len(packing_collator(leaky, TOKENIZER, 16)(examples())["input_ids"]) == 1


@pytest.fixture(scope="module")
def train(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packing")
    save_language_model(folder / "llama")
    write_gsm8k(folder / "data")
    common = ["task=gsm8k", "model=local", f"model.path={folder / 'llama'}", f"data_dir={folder / 'data'}"]
    common += [f"run_root={folder / 'runs'}", "task.max_length=128", "task.max_new_tokens=8", "task.test_examples=1"]
    common += ["'task.prompt={question}:'", "trainer.max_steps=4", "trainer.batch_size=8", "trainer.log_every=1"]

    def run(*overrides):
        config, directory = prepare(
            compose(*(c.strip("'") if "{" not in c else _quoted(c) for c in common), *overrides)
        )
        launch(config, directory, ["test"])
        return [event["loss"] for event in directory.metrics() if event["event"] == "train"]

    return run


def _quoted(setting: str) -> str:
    key, _, value = setting.strip("'").partition("=")
    return f"{key}='{value}'"


def test_a_packed_run_has_the_losses_of_a_padded_one(train):
    options = ["method=lora", "method.rank=4", "method.target_modules=all_linear"]
    padded = train(*options)
    packed = train(*options, "trainer.packing=true")
    assert len(padded) == 4 and packed == pytest.approx(padded, rel=1e-5)
    assert train(*options, "trainer.packing=true", "trainer.accumulation=4") == pytest.approx(padded, rel=1e-5)
    assert train("method=kasa", "trainer.packing=true") == pytest.approx(train("method=kasa"), rel=1e-5)


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["task=gsm8k", "method=prefix_tuning"], "puts virtual tokens before a row"),
        (["task=gsm8k", "method=prompt_tuning"], "puts virtual tokens before a row"),
        (["task=gsm8k", "method=loreft"], "edits tokens by their place in a row"),
        (["task=glue/sst2", "method=lora"], "task=glue/sst2 has one label per row"),
    ],
)
def test_what_can_not_be_packed_is_refused(overrides, says):
    with pytest.raises(ConfigError, match=says):
        prepare(compose("model=smollm2_135m", *overrides, "trainer.packing=true"))


def test_packing_names_the_run_and_its_default_keeps_the_names_of_earlier_ones():
    common = ("task=gsm8k", "model=smollm2_135m", "method=lora")
    plain, off, on = (
        prepare(compose(*common, *more))[1].run_id for more in ([], ["trainer.packing=false"], ["trainer.packing=true"])
    )
    assert plain == off != on
