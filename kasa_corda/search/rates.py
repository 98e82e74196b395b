"""The learning rates that are tried: half decades over a window of the method's own, quarter decades round the best.

Every rate is 10^(k/4) to three significant digits (1, 1.78, 3.16, 5.62 times a power of ten), so that searches of
several methods, and of several sittings, meet at the same numbers.
"""

from __future__ import annotations

import math

WIDTH = 5
"""half decades in a window: two decades from end to end"""

CENTRES = {
    # relative to LoRA's best rate: KaSA 0.3 to 2, MiLoRA and CorDA-KPA 0.1 to 1, PiSSA and CorDA-IPA 0.03 to 0.5,
    # OLoRA and LoRA-GA about 0.06 (arXiv 2602.04998 for all but KaSA and CorDA, whose places are our guess)
    "lora": 10**-3.5,
    "dora": 10**-3.5,
    "kasa": 10**-3.5,
    "milora": 1e-4,
    "corda_kpa": 1e-4,
    "pissa": 1e-4,
    "corda_ipa": 1e-4,
    "olora": 10**-4.5,
    "lora_ga": 10**-4.5,
}
"""method -> middle of its window; of other methods it is the middle of their LEARNING_RATES"""


def window(method: str) -> tuple[float, ...]:
    """The ``WIDTH`` half decades that the search of a method begins with, the smallest first."""
    from ..methods import METHODS

    known = METHODS[method].LEARNING_RATES
    centre = CENTRES.get(method) or math.sqrt(min(known) * max(known))
    middle = 2 * round(2 * math.log10(centre))  # in quarter decades, a whole number of half ones
    return tuple(quarter(middle + 2 * offset) for offset in range(-(WIDTH // 2), WIDTH // 2 + 1))


def quarter(index: int) -> float:
    """10^(index / 4) to three significant digits."""
    return float(f"{10 ** (index / 4):.2e}")


def beside(rate: float, quarters: int) -> float:
    """The rate so many quarter decades above (below, if negative)."""
    return quarter(round(4 * math.log10(rate)) + quarters)
