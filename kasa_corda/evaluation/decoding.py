"""How continuations are generated: greedily, by beam search, or by sampling."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Decoding:
    """Everything that decides what is generated, beside the model and the prompts."""

    max_new_tokens: int
    stop: list[str] = field(default_factory=list)
    """texts that end an answer, beside the end tokens; not part of it"""
    num_beams: int = 1
    length_penalty: float = 1.0
    no_repeat_ngram_size: int = 0
    samples: int = 1
    """texts per prompt; with 1 the most likely one, unless temperature is given"""
    temperature: float | None = None
    """None is greedy or beam search, a number is sampling"""
    top_p: float = 1.0
    seed: int = 0
