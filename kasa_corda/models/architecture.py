"""The layers of a model, and those a method adapts, from the config fields alone (no torch)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ..errors import ConfigError, nearest, unknown
from .families import ARCHITECTURES, Architecture, architecture_of

__all__ = ["ARCHITECTURES", "PRESETS", "linear_shapes", "match_targets", "target_names"]

PRESETS = ("qv", "five", "all_linear", "kv_down")
KEY = "method.target_modules"
Test = Callable[[str], object]


def field(model: Mapping[str, Any], name: str) -> int:
    """A positive whole number of the model config; ConfigError if it is missing or something else."""
    value = model.get(name)
    if value is None or value == "???":
        raise ConfigError(f"model.{name} is missing; give it, or use model=local model.path=DIR, which reads it there")
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigError(f"model.{name}={value} must be a whole number of at least 1")
    return value


def widths(model: Mapping[str, Any]) -> dict[str, int]:
    """Sizes of the feature axes: hidden, inner (feed-forward), queries, keys (grouped-query), fused (q, k, v)."""
    hidden, heads = field(model, "hidden_size"), field(model, "heads")
    kv_heads = heads if model.get("kv_heads") is None else field(model, "kv_heads")
    if model.get("head_dim") is None and hidden % heads:
        raise ConfigError(f"model.hidden_size={hidden} is not a multiple of model.heads={heads}; give model.head_dim")
    if heads % kv_heads:
        raise ConfigError(f"model.heads={heads} is not a multiple of model.kv_heads={kv_heads}")
    head_dim = hidden // heads if model.get("head_dim") is None else field(model, "head_dim")
    return {
        "hidden": hidden,
        "inner": field(model, "intermediate_size"),
        "queries": heads * head_dim,
        "keys": kv_heads * head_dim,
        "fused": 3 * hidden,
    }


def linear_shapes(model: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """Every linear layer of the base model: name relative to it -> (out, in). GPT-2's Conv1D count as linear."""
    family, width = architecture_of(model), widths(model)
    shapes = {
        f"{family.block.format(index)}.{name}": (width[out], width[into])
        for index in range(field(model, "layers"))
        for name, out, into, _ in family.linears
    }
    return shapes | {name: (width[out], width[into]) for name, out, into, _ in family.outside}


def target_names(architecture: str, preset: str) -> list[str]:
    """The layer names of a preset, as they may be written in ``method.target_modules``.

    qv: query and value (GPT-2: the fused c_attn). five: query, key, value, up, down. all_linear: every
    linear layer of a block. kv_down: key, value, down (IA3's). An encoder's feed-forward output is
    ``layer.*.output.dense``, because the bare ``output.dense`` also ends ``attention.output.dense``.
    ConfigError for an unknown preset.
    """
    family = architecture_of({"architecture": architecture})
    if preset not in PRESETS:
        raise ConfigError(unknown(KEY, preset, PRESETS))
    return [_unambiguous(name, family) for name in _within_block(family, preset)]


def match_targets(model: Mapping[str, Any], targets: object) -> dict[str, tuple[int, int]]:
    """The layers to adapt, name relative to the base model -> (out, in), in the order of the model.

    ``targets`` is a preset; a name or list of names, each matching every layer that ends with it at a
    dot (``*`` stands for one component, so ``output.dense`` matches two layers of an encoder block and
    ``layer.*.output.dense`` one); or a regular expression for the whole name, as in PEFT. ConfigError
    if nothing matches, or if one name of the list matches nothing.
    """
    family, shapes = architecture_of(model), linear_shapes(model)
    if isinstance(targets, str):
        names = target_names(model["architecture"], targets) if targets in PRESETS else [targets]
        tests = [_suffix(name) for name in names]
        if not _matches(tests, shapes):
            tests = [_expression(targets, family.prefix)]
        if not _matches(tests, shapes):
            raise _no_match(targets, model)
    elif isinstance(targets, Sequence) and targets and all(isinstance(name, str) and name for name in targets):
        tests = [_suffix(name) for name in targets]
        for name, test in zip(targets, tests, strict=True):
            if not _matches([test], shapes):
                raise _no_match(name, model)
    else:
        raise ConfigError(f"{KEY}={targets} must be {', '.join(PRESETS)}, a layer name or a list of layer names")
    return {name: shapes[name] for name in _matches(tests, shapes)}


def _within_block(family: Architecture, preset: str) -> tuple[str, ...]:
    return tuple(name for name, *_ in family.linears) if preset == "all_linear" else getattr(family, preset)


def _unambiguous(name: str, family: Architecture) -> str:
    """The name itself, or with the block before it if another layer ends with the same components."""
    if any(other.endswith(f".{name}") for other, *_ in family.linears):
        return f"{family.block.rpartition('.')[0].rpartition('.')[2]}.*.{name}"
    return name


def _suffix(name: str) -> Test:
    """Whether a layer's name ends with ``name`` at a dot."""
    return re.compile(r"(.*\.)?" + re.escape(name).replace(r"\*", r"[^.]+")).fullmatch


def _expression(pattern: str, prefix: str) -> Test:
    """Whether a regular expression fits a name, with or without the base model's own name before it."""
    try:
        fits = re.compile(pattern).fullmatch
    except re.error as error:
        raise ConfigError(f"{KEY}={pattern} is neither a layer name nor a regular expression ({error})") from None
    return lambda name: fits(name) or fits(f"{prefix}.{name}")


def _matches(tests: Sequence[Test], names: Iterable[str]) -> list[str]:
    return [name for name in names if any(test(name) for test in tests)]


def _no_match(text: str, model: Mapping[str, Any]) -> ConfigError:
    family = architecture_of(model)
    names = [name for name, *_ in (*family.linears, *family.outside)]
    last = dict.fromkeys(name.rpartition(".")[2] for name in names)
    close = nearest(text.rpartition(".")[2], [*last, *names, *PRESETS])
    hint = f"; did you mean {' or '.join(close)}?" if close else "."
    return ConfigError(
        f"{KEY}={text} matches no linear layer of model={model.get('name', '?')} ({model['architecture']}){hint}"
        f" Valid: {', '.join([*PRESETS, *names])}"
    )
