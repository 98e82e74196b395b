"""Batches hold every example once, depend on the seed alone, and pad as the tokenizer says."""

from __future__ import annotations

from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from kasa_corda.batches import Collator, epoch_batches, split_batch

lengths = st.lists(st.integers(1, 100), min_size=1, max_size=300)


@given(lengths, st.integers(1, 40), st.integers(0, 9), st.integers(0, 9), st.booleans())
def test_every_example_appears_once_and_order_follows_the_seed(lengths, size, seed, epoch, group):
    batches = epoch_batches(lengths, size, seed, epoch, group=group)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    assert sorted(map(len, batches))[1:] == [size] * (len(batches) - 1)
    assert batches == epoch_batches(lengths, size, seed, epoch, group=group)


def test_epochs_and_seeds_differ():
    orders = {str(epoch_batches([1] * 50, 5, seed, epoch, group=False)) for seed in (0, 1) for epoch in (0, 1)}
    assert len(orders) == 4


def test_grouping_wastes_less_padding():
    measured = [1 + (7 * i) % 90 for i in range(1000)]

    def padding(group):
        batches = epoch_batches(measured, 16, 0, 0, group=group)
        return sum(max(measured[i] for i in b) * len(b) - sum(measured[i] for i in b) for b in batches)

    assert padding(True) < 0.2 * padding(False)


@given(st.lists(st.integers(0, 10**6), max_size=40), st.integers(1, 9))
def test_splitting_keeps_all_examples_in_order(batch, parts):
    pieces = split_batch(batch, parts)
    assert len(pieces) == parts
    assert [i for piece in pieces for i in piece] == batch


def collate(side):
    tokenizer = SimpleNamespace(padding_side=side, pad_token_id=9, pad_token_type_id=0)
    rows = [
        {"input_ids": [1, 2, 3], "attention_mask": [1, 1, 1], "labels": 1},
        {"input_ids": [4], "attention_mask": [1], "labels": 0},
    ]
    return Collator(tokenizer)(rows)


def test_padding_goes_to_the_tokenizers_side():
    assert collate("right")["input_ids"].tolist() == [[1, 2, 3], [4, 9, 9]]
    assert collate("left")["input_ids"].tolist() == [[1, 2, 3], [9, 9, 4]]
    assert collate("left")["attention_mask"].tolist() == [[1, 1, 1], [0, 0, 1]]
    assert collate("right")["labels"].tolist() == [1, 0]
