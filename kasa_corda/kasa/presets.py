"""The four KaSAs in the world as settings of one implementation (no torch). Sources: docs/kasa.md."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any


@dataclass(frozen=True)
class Switches:
    """Everything in which published KaSAs differ; each field is a key ``method.<field>``."""

    keep: str
    """min: rank min(out, in) - k is kept; in_features: the first in - k of the min(out, in) components"""
    core: str
    """diagonal: r numbers between B and A; dense: an r x r matrix that is diagonal only at initialisation"""
    sigma_init: str
    """normal: N(0, 1); ones"""
    scaling: str
    """lora: alpha / r; rslora: alpha / sqrt(r)"""
    reduction: str
    """of both penalties over the layers: sum or mean"""
    gram: str
    """small: A A' and B' B against I_r; large: A' A against I_in and B B' against I_out"""
    norm: str
    """of the orthogonality penalty: plain Frobenius norm, or squared"""
    correction: str
    """where the truncation is kept: fold, in the base's dtype; low_rank, a float32 term; auto, whichever keeps it"""


_PAPER = Switches(
    keep="min",
    core="diagonal",
    sigma_init="normal",
    scaling="lora",
    reduction="sum",
    gram="small",
    norm="plain",
    correction="auto",
)
_AUTHORS = replace(_PAPER, keep="in_features", reduction="mean", gram="large", correction="fold")

PRESETS: dict[str, Switches] = {
    "paper": _PAPER,
    "authors": _AUTHORS,
    "authors_first": replace(_AUTHORS, core="dense"),
    "peft": replace(_PAPER, correction="fold"),
}

CONTROLS = ("none", "truncation_only", "no_truncation", "lora_matched", "cut_largest", "sigma_frozen")


def switches(config: Any) -> Switches:
    """The preset ``config.variant`` with every switch that the config gives itself."""
    return replace(PRESETS[config.variant], **_given(config))


def described(config: Any) -> str:
    """The preset with what departs from it, e.g. 'authors, core=diagonal, control=sigma_frozen'."""
    preset = PRESETS[config.variant]
    departures = {name: value for name, value in _given(config).items() if value != getattr(preset, name)}
    if config.truncation_rank not in (None, config.rank):
        departures["truncation_rank"] = config.truncation_rank
    if config.control != "none":
        departures["control"] = config.control
    return ", ".join([config.variant, *(f"{name}={value}" for name, value in departures.items())])


def components_cut(out_features: int, in_features: int, rank: int, keep: str) -> int:
    """How many of the min(out, in) singular components a layer loses.

    keep=in_features is the slice ``[: in - rank]`` of a thin SVD: for in > out it removes fewer than
    ``rank`` components, and none at all once in - rank >= out.
    """
    full = min(out_features, in_features)
    kept = full - rank if keep == "min" else min(full, in_features - rank)
    return full - kept


def matched_rank(shapes: list[tuple[int, int]], rank: int, core: str) -> tuple[int, int, int]:
    """The LoRA rank nearest in parameters to KaSA on these layers (out, in), LoRA's count, and KaSA's."""
    per_rank = sum(out_features + in_features for out_features, in_features in shapes)
    own = rank * per_rank + len(shapes) * (rank if core == "diagonal" else rank * rank)
    nearest = round(own / per_rank)
    return nearest, nearest * per_rank, own


def _given(config: Any) -> dict[str, Any]:
    names = [field.name for field in fields(Switches)]
    return {name: getattr(config, name) for name in names if getattr(config, name) is not None}
