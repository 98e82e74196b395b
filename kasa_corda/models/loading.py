"""A model config becomes a model and a tokenizer, ready for a method to adapt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError, DataError
from .empty import empty_model
from .families import architecture_of, task_family
from .fingerprint import VOCABULARIES, has_vocabulary, sampled_fingerprint, weight_files
from .heads import MAY_BE_FRESH, PROBLEMS, fresh_modules, head_modules, head_notes
from .local import check_shape, described, read_config
from .quiet import quiet, silence_deprecations
from .sources import locate

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase

__all__ = ["LoadedModel", "empty_model", "load_model", "load_tokenizer"]


@dataclass
class LoadedModel:
    """A pretrained model with a task head, and where it came from."""

    model: nn.Module
    tokenizer: PreTrainedTokenizerBase
    source: str
    fingerprint: str
    """see ``sampled_fingerprint``"""
    head: list[str]
    """names of the head modules to train; empty for a language model"""
    notes: list[str] = field(default_factory=list)
    """what the reader of a result should know"""
    fresh: list[str] = field(default_factory=list)
    """modules with random weights, trained or not; an adapter that leaves one out can't be reloaded exactly"""


def load_model(config: Mapping[str, Any], num_labels: int | None, problem: str | None) -> LoadedModel:
    """Load a classifier with ``num_labels`` outputs (1 for a regression), or a language model (None).

    The head is drawn from torch's random generator: seed it before. DataError if no source has the
    weights, or if they are damaged or do not fit; ConfigError if the request makes no sense.
    """
    silence_deprecations()
    family = task_family(config, num_labels)
    located = locate(config)
    check_shape(config, described(read_config(located.folder), str(located.folder)), located.source)
    tokenizer = load_tokenizer(located.folder, trust_remote_code=bool(config.get("trust_remote_code")))
    model, info = _from_pretrained(config, located.folder, num_labels, problem)
    fresh = fresh_modules(info, located.source, allowed=MAY_BE_FRESH if num_labels else ())
    for settings in (model.config, getattr(model, "generation_config", None)):
        if settings is not None:
            settings.pad_token_id = tokenizer.pad_token_id  # type: ignore[union-attr]
    return LoadedModel(
        model=model,
        tokenizer=tokenizer,
        source=located.source,
        fingerprint=sampled_fingerprint(located.folder, bool(config.get("allow_pickle"))),
        head=head_modules(family, config, fresh) if num_labels else [],
        notes=[*located.notes, *head_notes(family, config, fresh, bool(num_labels))],
        fresh=fresh,
    )


def load_tokenizer(folder: str | Path, *, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """The tokenizer of a model folder, padding on the right, with a padding token; DataError if it can't be read."""
    from transformers import AutoTokenizer

    if not has_vocabulary(folder):
        raise DataError(f"{folder} has no tokenizer ({', '.join(VOCABULARIES)})")
    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(
                folder, local_files_only=True, padding_side="right", trust_remote_code=trust_remote_code
            )
    except Exception as error:
        reason = _first_line(error)
        if not (Path(folder) / "tokenizer.json").exists() and find_spec("sentencepiece") is None:
            reason = "it needs the package sentencepiece: pip install sentencepiece"
        raise DataError(f"the tokenizer in {folder} can't be loaded ({reason})") from None
    try:
        tokenizer("A word, \u00e9\u4e2d.")
    except Exception as error:
        raise DataError(f"the tokenizer in {folder} can't read a text ({_first_line(error)})") from None
    if len(tokenizer) <= len(tokenizer.all_special_ids):
        raise DataError(f"the tokenizer in {folder} has no words (its files don't fit its class)")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.pad_token is None:
        raise DataError(f"the tokenizer in {folder} has neither a padding nor an end token")
    return tokenizer


def _from_pretrained(
    config: Mapping[str, Any], folder: Path, num_labels: int | None, problem: str | None
) -> tuple[nn.Module, dict[str, Any]]:
    """The model and transformers' account of missing and mismatched weights."""
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    dtype = getattr(torch, str(config.get("dtype") or "float32"))
    attention = attention_kernel(config)
    options: dict[str, Any] = {
        "attn_implementation": attention,
        "trust_remote_code": bool(config.get("trust_remote_code")),
    }
    if num_labels is not None:
        options |= {
            "num_labels": num_labels,
            "problem_type": PROBLEMS.get(problem or ""),
            "ignore_mismatched_sizes": True,
        }
    safe = weight_files(folder, bool(config.get("allow_pickle")))[0].suffix == ".safetensors"
    factory = AutoModelForCausalLM if num_labels is None else AutoModelForSequenceClassification
    try:
        with quiet():
            options |= {"dtype": dtype, "local_files_only": True, "use_safetensors": safe, "weights_only": True}
            loaded: Any = factory.from_pretrained(folder, output_loading_info=True, **options)
            return loaded
    except ImportError as error:
        raise ConfigError(f"model.attention={attention} can't be used here ({_first_line(error)})") from None
    except Exception as error:
        raise DataError(f"the weights in {folder} can't be loaded ({_first_line(error)})") from None


def attention_kernel(config: Mapping[str, Any]) -> str:
    """The attention kernel to use: the one asked for, but eager where the family has no sdpa (DeBERTa)."""
    asked = config.get("attention") or "sdpa"
    return "eager" if asked == "sdpa" and not architecture_of(config).sdpa else asked


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__
