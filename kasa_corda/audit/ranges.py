"""Numbers outside what their metric can be, and texts that are no numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from .finding import Finding, name_of
from .reading import BOUNDED, CORRELATIONS, Reading, is_number

if TYPE_CHECKING:
    from ..paper.published import Cell

CHECK = "range of the metric"


def check_ranges(readings: Sequence[Reading]) -> Iterator[Finding]:
    """Shares outside 0..1, correlations outside -1..1, perplexities below 1."""
    for reading in readings:
        number = reading.printed
        lowest, highest = (-1 if reading.kind in CORRELATIONS else 0), 1
        if reading.kind in BOUNDED and (number.high < lowest or number.low > highest):
            limits = f"{lowest * number.unit} to {number.unit}"
            sentence = f"{name_of(reading.cell)} = {number.text} is outside {limits}."
            yield Finding("impossible", CHECK, (reading.cell,), sentence)
        elif reading.kind == "perplexity" and number.high < 1:
            sentence = f"{name_of(reading.cell)} = {number.text}: a perplexity is at least 1."
            yield Finding("impossible", CHECK, (reading.cell,), sentence)


def check_texts(cells: Sequence[Cell]) -> Iterator[Finding]:
    """Values and deviations that can't be read as a number, so that no check sees them."""
    for cell in cells:
        for text in (cell.value, cell.std):
            if text and not is_number(text):
                yield Finding("notice", "readable", (cell,), f"{name_of(cell)}: {text!r} is not a number; not checked.")
