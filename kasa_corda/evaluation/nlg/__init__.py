"""The five metrics of the E2E challenge (e2e-metrics: mteval-v13a, COCO caption scripts) without Java and Perl."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .measured import Measured
    from .meteor_resources import Resources

METRICS = ("bleu", "nist", "meteor", "rouge_l", "cider")
"""BLEU, METEOR and ROUGE-L are fractions; NIST and CIDEr have no upper end of 1"""


def measure(
    predictions: Sequence[str], references: Sequence[Sequence[str]], resources: Resources
) -> dict[str, Measured]:
    """Every metric over texts with at least one reference each. Line breaks and runs of spaces count as one space."""
    from .bleu import bleu
    from .cider import cider
    from .meteor import meteor
    from .nist import nist
    from .rouge_l import rouge_l

    predictions = [" ".join(text.split()) for text in predictions]
    references = [[" ".join(text.split()) for text in accepted] for accepted in references]
    return {
        "bleu": bleu(predictions, references),
        "nist": nist(predictions, references),
        "meteor": meteor(predictions, references, resources),
        "rouge_l": rouge_l(predictions, references),
        "cider": cider(predictions, references),
    }
