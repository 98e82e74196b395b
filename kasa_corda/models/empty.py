"""A model without weights, built from the config fields alone: for the dry run and for tests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .architecture import field, widths
from .families import architecture_of, task_family
from .heads import PROBLEMS, head_modules
from .local import GPT2_NAMES, NAMES, RESERVED_POSITIONS
from .quiet import silence_deprecations
from .size import RELATIVE_POSITIONS

if TYPE_CHECKING:
    from torch import nn

FIXED: dict[str, dict[str, Any]] = {
    "roberta": {"type_vocab_size": 1},
    "deberta-v2": {
        "type_vocab_size": 0,
        "position_biased_input": False,
        "relative_attention": True,
        "pos_att_type": ["p2c", "c2p"],
        "position_buckets": RELATIVE_POSITIONS,
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
    },
}
"""settings of a family that ModelConfig has no field for (deberta-v2: as in DeBERTa-v3)"""


def empty_model(
    config: Mapping[str, Any], num_labels: int | None, problem: str | None, *, device: str = "meta"
) -> tuple[nn.Module, list[str]]:
    """The classifier (or language model, if ``num_labels`` is None) on the meta device, and its head modules.

    No file is read and no memory is used for weights; on another ``device`` they are random. ConfigError if an encoder
    is asked to generate.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    silence_deprecations()
    family = task_family(config, num_labels)
    settings = transformers_config(config)
    settings.pad_token_id = 0
    if num_labels is not None:
        settings.num_labels = num_labels
        settings.problem_type = PROBLEMS.get(problem or "")
    factory = AutoModelForCausalLM if num_labels is None else AutoModelForSequenceClassification
    with torch.device(device):
        model = factory.from_config(settings, dtype=getattr(torch, str(config.get("dtype") or "float32")))
    return model, head_modules(family, config, family.fresh) if num_labels else []


def transformers_config(config: Mapping[str, Any]) -> Any:
    """The transformers config with the sizes of a ModelConfig."""
    from transformers import AutoConfig

    architecture = str(config["architecture"])
    family, width = architecture_of(config), widths(config)
    names = GPT2_NAMES if architecture == "gpt2" else NAMES
    sizes = {key: field(config, name) for name, key in names.items() if name != "max_positions"}
    sizes[names["max_positions"]] = (config.get("max_positions") or 512) + RESERVED_POSITIONS.get(architecture, 0)
    if family.kind == "decoder" and architecture != "gpt2":
        head_dim = width["queries"] // sizes["num_attention_heads"]
        sizes |= {"num_key_value_heads": width["keys"] // head_dim, "head_dim": head_dim}
    if family.kind == "decoder":
        tied = config.get("tied_embeddings")
        sizes["tie_word_embeddings"] = family.tied if tied is None else tied
    return AutoConfig.for_model(architecture, **sizes, **FIXED.get(architecture, {}))
