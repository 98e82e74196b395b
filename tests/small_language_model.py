"""A small random Llama that reads bytes and can so be taught any text, and question data in the original layouts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from small_models import small

END, PAD = "<end>", "<pad>"


def byte_tokenizer():
    """One token per byte, an end and a padding token; no start token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {text: i for i, text in enumerate([PAD, END, *letters])}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, pad_token=PAD)


def small_llama(**changes: Any):
    """The model of ``byte_tokenizer``, with weights large enough that its answers vary."""
    import torch
    from transformers import AutoModelForCausalLM

    from kasa_corda.models.empty import transformers_config

    config = transformers_config(small("llama", vocab_size=258, max_positions=512, **changes))
    config.pad_token_id, config.eos_token_id, config.initializer_range = 0, 1, 0.2
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config)


def save_language_model(folder: Path) -> Path:
    small_llama().save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def sum_problem(i: int) -> dict[str, str]:
    total = 1000 * i + i
    return {
        "question": f"What is {1000 * i} and {i}?",
        "answer": f"{1000 * i}+{i}=<<{1000 * i}+{i}={total}>>{total}\n#### {total:,}",
    }


def write_gsm8k(data_dir: Path, train: int = 40, test: int = 12) -> Path:
    write_jsonl(data_dir / "gsm8k" / "train.jsonl", [sum_problem(i) for i in range(1, train + 1)])
    write_jsonl(data_dir / "gsm8k" / "test.jsonl", [sum_problem(i) for i in range(500, 500 + test)])
    return data_dir


def write_open_qa(data_dir: Path, count: int = 60) -> Path:
    rows = [{"question": f"who is number {i}", "answer": [f"Person {i}", f"Mr. {i}"]} for i in range(count)]
    write_jsonl(data_dir / "nq_open" / "NQ-open.dev.jsonl", rows)
    for split in ("train", "test"):
        answers = [{"answer": ["The Moon"], "question": f"what is {split} {i}?"} for i in range(20)]
        write_jsonl(data_dir / "webqs" / f"WebQuestions-{split}.txt", answers)
    return data_dir
