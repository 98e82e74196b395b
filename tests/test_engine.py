"""Generation with rows that come and go, memory that runs out, sampling and beams: the same texts as one by one."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import pytest
import torch
from small_language_model import byte_tokenizer, small_llama

from kasa_corda.evaluation._batching import BatchSize, Request
from kasa_corda.evaluation._beams import generate_beams
from kasa_corda.evaluation._choice import choose
from kasa_corda.evaluation._engine import Engine
from kasa_corda.evaluation._generate import generate
from kasa_corda.evaluation._graphs import Graphs
from kasa_corda.evaluation._slots import slots_fit
from kasa_corda.evaluation.decoding import Decoding

PROMPTS = ["a", "What is it?", "Q: one two three\nA:", "x" * 40, "yes", "\n\n", "seven", "8", "nine, ten", "And now"]
GREEDY = Decoding(16, ["e"])
SAMPLED = Decoding(16, ["e"], samples=2, temperature=0.8, top_p=0.95)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def model():
    return small_llama().eval()


@pytest.fixture(scope="module")
def tokenizer():
    return byte_tokenizer()


@pytest.fixture(scope="module")
def requests(tokenizer):
    return [Request(str(i), tokenizer(text)["input_ids"]) for i, text in enumerate(PROMPTS)]


def with_samples(requests, decoding):
    return [Request(r.key, r.ids, sample) for r in requests for sample in range(decoding.samples)]


def one_by_one(model, tokenizer, requests, decoding):
    return [generate(model, tokenizer, [request], decoding, BatchSize(1))[0] for request in requests]


class Watched(torch.nn.Module):
    """Counts rows and steps of a model, and is out of memory where ``refuses`` says so."""

    def __init__(self, model, refuses=lambda rows, tokens, steps: False):
        super().__init__()
        self.model, self.config, self.generation_config = model, model.config, model.generation_config
        self.refuses, self.steps, self.row_steps, self.prompts = refuses, 0, 0, 0

    def forward(self, input_ids, **named):
        rows, tokens = input_ids.shape
        if self.refuses(rows, tokens, self.steps):
            raise torch.cuda.OutOfMemoryError("made up")
        self.steps += tokens == 1
        self.row_steps += rows if tokens == 1 else 0
        self.prompts += rows if tokens > 1 else 0
        return self.model(input_ids=input_ids, **named)


@pytest.mark.parametrize("decoding", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_the_batch_size_changes_no_text(model, tokenizer, requests, decoding):
    wanted = with_samples(requests, decoding)
    expected = one_by_one(model, tokenizer, wanted, decoding)
    assert len(set(expected)) > len(PROMPTS) // 2
    for rows in (1, 3, 64):
        assert generate(model, tokenizer, wanted, decoding, BatchSize(rows)) == expected
    assert generate(model, tokenizer, wanted[::-1], decoding, BatchSize(4)) == expected[::-1]


def test_a_finished_row_gives_its_slot_to_the_next_prompt(model, tokenizer, requests):
    decoding = Decoding(40, list("abcdefghijkl"), samples=8, temperature=1.5)
    many, tokens = with_samples(requests[1:7], decoding), {}
    watched = Watched(model)
    generate(watched, tokenizer, many, decoding, BatchSize(8), lambda r, _, n: tokens.update({(r.key, r.sample): n}))
    lengths = [tokens[r.key, r.sample] for r in many]
    in_fixed_batches = sum(max(lengths[start : start + 8]) for start in range(0, len(many), 8))
    assert watched.steps < 0.75 * in_fixed_batches
    assert watched.row_steps < 1.5 * sum(lengths)
    assert watched.prompts < len(many)  # the samples of a prompt share the reading of it


@pytest.mark.parametrize("decoding", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_when_memory_runs_out_half_the_rows_wait_and_nothing_is_generated_twice(model, tokenizer, requests, decoding):
    wanted = with_samples(requests[: 8 // decoding.samples], decoding)
    calm = Watched(model)
    expected = generate(calm, tokenizer, wanted, decoding, BatchSize(8))
    told: Counter[tuple[str, int]] = Counter()
    tight = Watched(model, lambda rows, tokens, steps: tokens == 1 and rows > 3 and steps >= 4)
    size = BatchSize(8)
    texts = generate(tight, tokenizer, wanted, decoding, size, lambda r, *_: told.update([(r.key, r.sample)]))
    assert texts == expected
    assert set(told.values()) == {1} and len(told) == len(wanted)
    assert size.rows == 2 and "batch_size=8" in size.notes()[0]
    assert tight.prompts == calm.prompts
    assert tight.row_steps <= calm.row_steps + 4 * 8
    assert generate(tight, tokenizer, wanted, decoding, size) == expected and size.rows == 2


def test_memory_that_runs_out_while_prompts_are_read(model, tokenizer, requests):
    size = BatchSize(8)
    tight = Watched(model, lambda rows, tokens, steps: rows * tokens > 60)
    assert generate(tight, tokenizer, requests, GREEDY, size) == generate(
        model, tokenizer, requests, GREEDY, BatchSize(8)
    )
    assert size.rows < 8
    with pytest.raises(torch.cuda.OutOfMemoryError):
        generate(Watched(model, lambda *_: True), tokenizer, requests, GREEDY, BatchSize(4))


@pytest.mark.parametrize("decoding", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_several_steps_at_a_time_and_replayed_steps_give_the_same_texts(
    model, tokenizer, requests, decoding, monkeypatch
):
    wanted = with_samples(requests, decoding)
    expected = one_by_one(model, tokenizer, wanted, decoding)
    captured = []

    def capture(graphs):
        captured.append(graphs)
        for _ in range(3):  # what warming up and capturing do to the rows' state must not be seen
            graphs.work()
        return SimpleNamespace(replay=graphs.work)

    monkeypatch.setattr(Graphs, "_captured", capture)
    found = {}
    engine = Engine(
        model, tokenizer, decoding, BatchSize(4), lambda r, text, _: found.update({(r.key, r.sample): text})
    )
    engine.graphs, engine.stride = Graphs(engine._forward), 4
    engine.run(wanted)
    assert [found[r.key, r.sample] for r in wanted] == expected
    assert captured


def test_a_step_that_can_not_be_a_graph_is_done_plainly(monkeypatch):
    done = []
    graphs = Graphs(lambda: done.append(1))
    monkeypatch.setattr(Graphs, "_captured", lambda self: (_ for _ in ()).throw(RuntimeError("not permitted\nmore")))
    for _ in range(2):
        graphs.step(64, torch.zeros(1))
    assert done == [1, 1] and graphs.refused == "not permitted"


@pytest.mark.parametrize("method", ["prefix_tuning", "prompt_tuning", "loreft", "kasa"])
def test_every_kind_of_adapter_goes_through_refilled_batches_and_beams(method, tokenizer, requests):
    from kasa_corda.api import adapt

    options = {"rank": 4} if method in ("loreft", "kasa") else {"tokens": 3}
    torch.manual_seed(0)
    model = adapt(small_llama(), method, **options).model.eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.3 * torch.randn_like(parameter))
    some, short = requests[:6], Decoding(8)
    expected = one_by_one(model, tokenizer, some, short)
    assert generate(model, tokenizer, some, short, BatchSize(2)) == expected
    assert expected != one_by_one(small_llama().eval(), tokenizer, some, short)
    found = {}
    generate_beams(model, tokenizer, some, short, BatchSize(4), lambda r, text, _: found.update({r.key: text}))
    assert [found[r.key] for r in some] == expected  # one beam is greedy
    beams = Decoding(8, num_beams=3)
    assert generate(model, tokenizer, some, beams, BatchSize(6)) == one_by_one(model, tokenizer, some, beams)


def test_windows_that_slide_are_generated_in_batches_of_fixed_members(tokenizer, requests):
    from small_models import small
    from transformers import AutoModelForCausalLM

    from kasa_corda.models.empty import transformers_config

    config = transformers_config(small("mistral", vocab_size=258, max_positions=128))
    config.sliding_window, config.initializer_range, config.eos_token_id = 8, 0.2, 1
    sliding = AutoModelForCausalLM.from_config(config).eval()
    assert not slots_fit(sliding, 50) and slots_fit(sliding, 7)
    for decoding in (GREEDY, SAMPLED):
        wanted = with_samples(requests, decoding)
        assert generate(sliding, tokenizer, wanted, decoding, BatchSize(4)) == one_by_one(
            sliding, tokenizer, wanted, decoding
        )
    tight, size = Watched(sliding, lambda rows, tokens, steps: rows > 3), BatchSize(8)
    assert generate(tight, tokenizer, requests, GREEDY, size) == one_by_one(sliding, tokenizer, requests, GREEDY)
    assert size.rows == 2


def test_samples_are_drawn_from_the_softmax_and_top_p_cuts_its_tail():
    torch.manual_seed(0)
    logits = torch.randn(1, 12)
    drawn = torch.rand(20000, dtype=torch.float64)
    for top_p in (1.0, 0.7):
        decoding = Decoding(1, temperature=0.7, top_p=top_p)
        counts = torch.bincount(choose(logits.expand(len(drawn), -1), decoding, drawn), minlength=12)
        chances = (logits[0].double() / 0.7).softmax(-1)
        likely = chances.sort(descending=True).indices
        kept = int((chances[likely].cumsum(0) < top_p).sum()) + 1 if top_p < 1 else 12
        expected = torch.zeros(12, dtype=torch.float64)
        expected[likely[:kept]] = chances[likely[:kept]] / chances[likely[:kept]].sum()
        assert (counts[likely[kept:]] == 0).all()
        assert (counts / len(drawn) - expected).abs().max() < 0.015


def test_samples_differ_from_each_other_and_with_the_seed(model, tokenizer, requests):
    from dataclasses import replace

    wanted = with_samples(requests, SAMPLED)
    texts = generate(model, tokenizer, wanted, SAMPLED, BatchSize(8))
    assert sum(a != b for a, b in zip(texts[::2], texts[1::2], strict=True)) >= 6
    assert generate(model, tokenizer, wanted, replace(SAMPLED, seed=1), BatchSize(8)) != texts


def test_beams_are_those_of_transformers_and_the_models_own_settings_stay_out(model, tokenizer, requests):
    from transformers import GenerationConfig

    decoding = Decoding(10, num_beams=4, length_penalty=0.8, no_repeat_ngram_size=2)
    expected = []
    for request in requests:
        ids = torch.tensor([request.ids])
        settings = GenerationConfig(
            num_beams=4, length_penalty=0.8, no_repeat_ngram_size=2, max_new_tokens=10, eos_token_id=1, pad_token_id=0
        )
        out = model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=settings)
        expected.append(tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True))
    before = model.generation_config
    model.generation_config = GenerationConfig(repetition_penalty=5.0, eos_token_id=1)
    try:
        assert generate(model, tokenizer, requests, decoding, BatchSize(4)) == expected
        assert model.generation_config.repetition_penalty == 5.0
    finally:
        model.generation_config = before
    assert expected != generate(model, tokenizer, requests, Decoding(10), BatchSize(4))


@pytest.mark.parametrize("change", [{}, {"temperature": 0.7}, {"num_beams": 3}], ids=["greedy", "sampled", "beams"])
def test_no_text_holds_a_stop_string(model, tokenizer, requests, change):
    free = generate(model, tokenizer, requests, Decoding(16, **change), BatchSize(4))
    pairs = [text[i : i + 2] for text in free for i in range(2, len(text) - 1)]
    stop = max(pairs, key=pairs.count)
    stopped = generate(model, tokenizer, requests, Decoding(16, [stop], **change), BatchSize(4))
    assert any(stop in text for text in free) and not any(stop in text for text in stopped)
    if "num_beams" not in change:
        assert stopped == [text.partition(stop)[0] for text in free]
