"""A printed number as the interval of all values that could have been printed so."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

SINGLE = Fraction(1, 2**23)
"""relative spacing of single-precision numbers: a score may have been computed in them"""
DOUBLE = Fraction(1, 2**50)
"""a few times the relative spacing of double-precision numbers"""


@dataclass(frozen=True)
class Printed:
    """``low``..``high``, both possible, holds every value that rounds (half up, half even) or is cut to ``text``."""

    text: str
    """as printed; all else is in units of 1"""
    value: Fraction
    low: Fraction
    high: Fraction
    unit: int
    """what the source prints for 1: 100 for percent"""

    def shown(self, value: Fraction | float) -> str:
        """Another value as this source would print it, rounded."""
        return f"{float(value) * self.unit:.{decimals_of(self.text)}f}"

    def holds(self, value: Fraction | float) -> bool:
        return self.low <= value <= self.high


def printed(text: str, unit: int = 1, *, padded: int = 0, precision: Fraction = SINGLE) -> Printed:
    """The interval behind a printed number.

    ``unit`` 100: it is in percent; ``padded``: so many last digits say nothing; ``precision``: relative, of the
    arithmetic that gave it.
    """
    value, step = Fraction(text), Fraction(1, 10 ** max(0, decimals_of(text) - padded))
    # a value may be cut only towards zero; a printed zero may have been cut from either side
    below, above = (step if value <= 0 else step / 2), (step if value >= 0 else step / 2)
    computed = abs(value) * precision
    return Printed(text, value / unit, (value - below - computed) / unit, (value + above + computed) / unit, unit)


def decimals_of(text: str) -> int:
    """Digits after the point; a number in scientific notation has those of its last digit."""
    return max(0, -int(Decimal(text).as_tuple().exponent))


def one_digit_away(text: str) -> list[str]:
    """Every number that differs from the printed one in a single digit after the point."""
    whole, point, digits = text.partition(".")
    return [
        f"{whole}{point}{digits[:place]}{digit}{digits[place + 1 :]}"
        for place, old in enumerate(digits)
        if old.isdigit()
        for digit in "0123456789"
        if digit != old
    ]
