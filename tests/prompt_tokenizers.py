"""Tiny tokenizers that put start and end tokens where the large ones of their family do."""

from __future__ import annotations

from typing import Any

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
)
INST = "{{ bos_token }}{% for m in messages %}[INST] {{ m.content }} [/INST]{% endfor %}"
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 .,:;!?'#=+-*/\n[]_<>|{}\u2581"


def gpt2(template: str | None = None) -> Any:
    """Bytes; a start token exists but is not put before a text."""
    return _bytes({"eos_token": "<|endoftext|>", "bos_token": "<|endoftext|>"}, None, template)


def qwen(template: str | None = CHATML) -> Any:
    """Bytes; no start token at all, another end than padding token."""
    return _bytes({"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}, None, template, ["<|im_start|>"])


def llama3(template: str | None = INST) -> Any:
    """Bytes; a post-processor puts the start token before."""
    return _bytes({"bos_token": "<|begin|>", "eos_token": "<|end|>"}, "<|begin|> $A", template)


def llama2(template: str | None = INST) -> Any:
    """Sentence pieces with a space put before the text; start token before."""
    return _pieces({"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}, "<s> $A", "first", template)


def gemma(template: str | None = INST) -> Any:
    """Sentence pieces without that space; start token before."""
    names = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>"}
    return _pieces(names, "<bos> $A", "never", template)


def ending(template: str | None = INST) -> Any:
    """A start token before and an end token behind, as T5's descendants and some fine-tunes have it."""
    return _pieces({"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}, "<s> $A </s>", "first", template)


FAMILIES = {f.__name__: f for f in (gpt2, qwen, llama3, llama2, gemma, ending)}
STARTS = {"llama3", "llama2", "gemma", "ending"}
"""families whose texts begin with a start token"""


def _bytes(names: dict[str, str], around: str | None, template: str | None, extra: list[str] | None = None) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    special = list(dict.fromkeys([*names.values(), *(extra or [])]))
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({text: i for i, text in enumerate([*special, *letters])}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return _wrapped(tokenizer, names, special, around, template)


def _pieces(names: dict[str, str], around: str, prefix: str, template: str | None) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    special = list(names.values())
    vocabulary = [(text, 0.0) for text in special] + [(letter, -3.0) for letter in LETTERS]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=special.index("<unk>")))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=prefix)
    tokenizer.decoder = decoders.Metaspace(prepend_scheme=prefix)
    return _wrapped(tokenizer, names, special, around, template)


def _wrapped(
    tokenizer: Any, names: dict[str, str], special: list[str], around: str | None, template: str | None
) -> Any:
    from tokenizers import processors
    from transformers import PreTrainedTokenizerFast

    if around:
        ids = [(token, special.index(token)) for token in around.split() if token != "$A"]
        tokenizer.post_processor = processors.TemplateProcessing(single=around, special_tokens=ids)
    made = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names, additional_special_tokens=special)
    made.chat_template = template
    if made.pad_token is None:
        made.pad_token = made.eos_token
    return made
