"""The CorDAs in the world as named switches (docs/corda.md). No torch, so that configs are read at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Switches:
    """Everything in which published CorDAs differ."""

    normalisation: str
    """of the inputs, see ``calibration.Moments``"""
    divisor: str
    """of the covariance"""
    damping: str
    """when_singular or always"""
    balance: str
    """between A and B, see ``corda_factors``"""
    scaling: str
    """paper and authors: scale 1 whatever alpha; peft: alpha / r"""


PRESETS = {
    "paper": Switches("none", "none", "when_singular", "singular_values", "paper"),
    "authors": Switches("signed_max", "constant_256", "always", "singular_values", "authors"),
    "peft": Switches("signed_max", "calls", "always", "singular_values", "peft"),
    "balanced": Switches("none", "tokens", "when_singular", "equal", "paper"),
}


def switches(config: Any) -> Switches:
    """The preset ``config.variant`` with every switch that the config sets itself."""
    preset = PRESETS[config.variant]
    chosen = {name: getattr(config, name) for name in preset.__dataclass_fields__}
    return Switches(**{name: getattr(preset, name) if value is None else value for name, value in chosen.items()})


def scale_of(config: Any) -> float:
    """The factor before B A."""
    return config.alpha / config.rank if switches(config).scaling == "peft" else 1.0
