"""The method lists of the papers' tables, for ``python run.py -m method=kasa_table1 ...``.

CorDA's lists are its tables'. Those of KaSA come second-hand, from reviews, the authors' repository and papers that
quote its tables, and could not be checked against the paper.
"""

from __future__ import annotations

from dataclasses import dataclass

from .unavailable import UNAVAILABLE

ALL = "all"
"""stands for every registered method that trains"""


@dataclass(frozen=True)
class Group:
    """The rows of one table, in the names of ``METHODS``; methods that are not registered here stand too."""

    table: str
    methods: tuple[str, ...]


GROUPS: dict[str, Group] = {
    name: Group(table, tuple(methods.split()))
    for name, table, methods in (
        (
            "kasa_table1",
            "KaSA, GLUE (Tables 1 and 2)",
            "full bitfit adapter_drop pfeiffer houlsby lora adalora dylora pissa milora ssl ssb trilora kasa",
        ),
        ("kasa_e2e", "KaSA, E2E with GPT-2", "full adapter_l houlsby ft_top prefix_tuning lora vera sara kasa"),
        ("kasa_instruction", "KaSA, instruction following", "full lora pissa milora kasa"),
        (
            "kasa_commonsense",
            "KaSA, commonsense with LLaMA",
            "prefix_tuning series_adapter parallel_adapter lora dora pissa milora kasa",
        ),
        (
            "kasa_baselines",
            "KaSA, full fine-tuning and the 14 baselines of its text",
            "full bitfit houlsby pfeiffer adapter_l adapter_drop lora adalora dylora vera dora sara pissa milora"
            " corda_kpa corda_ipa kasa",
        ),
        ("corda_table1", "CorDA, knowledge-preserved", "full lora pissa corda_kpa"),
        ("corda_table2", "CorDA, instruction-previewed", "full lora dora pissa corda_ipa"),
        ("corda_table3", "CorDA, GLUE", "full lora dora corda_ipa"),
    )
}


def members(name: str) -> tuple[str, ...] | None:
    """The methods that ``method=name`` stands for; None if it is no group."""
    from . import METHODS

    if name == ALL:
        return tuple(name for name, method in METHODS.items() if method.trains)
    return GROUPS[name].methods if name in GROUPS else None


def absence(name: str) -> str | None:
    """Why a method of a group can't run; None if it is registered."""
    from . import METHODS

    if name in METHODS.names():
        return None
    if name in UNAVAILABLE:
        return f"definition not available: {UNAVAILABLE[name]}"
    return "not implemented here"
