"""From texts to calibration samples: a seeded choice of N token sequences, and the batches made of them."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DataError
from ..progress import Progress
from .settings import CHARACTERS_PER_TOKEN, CalibrationConfig, check_window
from .sources import Row, Texts

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase


@dataclass
class Calibration:
    """A chosen calibration set and where it is computed. What ``Method.prepare`` gets."""

    config: CalibrationConfig
    rows: list[Row]
    """encoded samples, unpadded"""
    tokenizer: Any
    origin: str
    notes: list[str] = field(default_factory=list)
    device: torch.device | str | None = None
    """where to compute; None is where the model is"""
    folder: Path | None = None
    """where finished blocks are kept, so that an interrupted preparation goes on"""
    progress: Progress = field(default_factory=lambda: Progress(show=False))
    alternatives: list[list[Row]] = field(default_factory=list)
    """further sample sets, for methods that choose between covariances"""

    @property
    def tokens(self) -> int:
        """Tokens that count."""
        return sum(sum(row["calibration_mask" if "calibration_mask" in row else "attention_mask"]) for row in self.rows)

    @property
    def fingerprint(self) -> str:
        """First 16 hex digits of the sha256 over the tokens of all samples and what counts of them."""
        return hashlib.sha256(json.dumps([self.rows, *self.alternatives], sort_keys=True).encode()).hexdigest()[:16]

    def batches(self) -> list[dict[str, Tensor]]:
        """Padded batches, samples of similar length together."""
        return self._batches(self.rows)

    def alternative_batches(self) -> list[list[dict[str, Tensor]]]:
        """The same of every further sample set."""
        return [self._batches(rows) for rows in self.alternatives]

    def _batches(self, rows: list[Row]) -> list[dict[str, Tensor]]:
        from ..batches import Collator

        collate = Collator(self.tokenizer)
        collate.fill["calibration_mask"] = 0
        rows = sorted(rows, key=lambda row: -len(row["input_ids"]))
        size = self.config.batch_size
        return [collate(rows[start : start + size]) for start in range(0, len(rows), size)]

    def described(self) -> dict[str, Any]:
        """What the result stores of it."""
        shown = {"origin": self.origin, "reading": self.config.reading, "seed": self.config.seed}
        return {**shown, "samples": len(self.rows), "tokens": self.tokens, "fingerprint": self.fingerprint}


def check_texts(materials: Sequence[Texts], config: CalibrationConfig) -> None:
    """DataError if an origin has no text, or too little for one window."""
    for material in materials:
        if not any(text.strip() for text in material.texts):
            raise DataError(f"the calibration set is empty: {material.origin} holds no text")
        if config.reading == "windows":
            check_window(config, len(joined(material)), material.origin)


def choose(materials: Sequence[Texts], config: CalibrationConfig, tokenizer: PreTrainedTokenizerBase) -> Calibration:
    """Draw the samples, in equal parts from every origin. DataError if there is nothing or too little to draw from."""
    check_texts(materials, config)
    notes = [note for material in materials for note in material.notes]
    share = -(-config.samples // len(materials))
    for material in materials:
        if config.reading == "single" and len(material.texts) < share:
            notes.append(f"{material.origin} has {len(material.texts):,} texts, fewer than the {share:,} wanted")
    rows, *alternatives = (draw(materials, config, tokenizer, config.seed + i) for i in range(config.candidates))
    origin = "; ".join(material.origin for material in materials)
    return Calibration(config, rows, tokenizer, origin, notes, alternatives=alternatives)


def draw(
    materials: Sequence[Texts], config: CalibrationConfig, tokenizer: PreTrainedTokenizerBase, seed: int
) -> list[Row]:
    """One sample set."""
    generator, rows = random.Random(seed), []
    for index, material in enumerate(materials):
        share = config.samples // len(materials) + (index < config.samples % len(materials))
        if config.reading == "windows":
            rows += windows(material, share, config, tokenizer, generator)
            continue
        positions = generator.sample(range(len(material.texts)), min(share, len(material.texts)))
        if material.encode is not None:
            rows += material.encode(positions, tokenizer)
        else:
            rows += encoded([material.texts[position] for position in positions], config.length, tokenizer)
    return rows


def windows(
    material: Texts, count: int, config: CalibrationConfig, tokenizer: PreTrainedTokenizerBase, generator: random.Random
) -> list[Row]:
    """``count`` samples of exactly ``length`` tokens, each starting at a random character of the joined texts."""
    text, characters = joined(material), CHARACTERS_PER_TOKEN * config.length
    starts = [generator.randint(0, len(text) - characters) for _ in range(count)]
    rows = encoded([text[start : start + characters] for start in starts], config.length, tokenizer)
    shortest = min((len(row["input_ids"]) for row in rows), default=config.length)
    if shortest < config.length:
        raise DataError(
            f"{characters:,} characters of {material.origin} make only {shortest} tokens of this model, fewer"
            f" than calibration.length={config.length}; use calibration.length={shortest} or less"
        )
    return rows


def joined(material: Texts) -> str:
    """All texts, separated by blank lines."""
    return "\n\n".join(material.texts)


def encoded(texts: list[str], length: int, tokenizer: PreTrainedTokenizerBase) -> list[Row]:
    """Plain texts as at most ``length`` tokens, with the special tokens of the model."""
    tokens = tokenizer(texts, truncation=True, max_length=length)
    return [{name: values[i] for name, values in tokens.items()} for i in range(len(texts))]
