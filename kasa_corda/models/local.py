"""A folder with a pretrained model, read into the fields of ModelConfig (no torch)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import ConfigError, DataError
from .families import ARCHITECTURES
from .fingerprint import VOCABULARIES, has_vocabulary, weight_files

MISSING = (None, "???")
SHAPE = ("architecture", "layers", "hidden_size", "intermediate_size", "heads", "kv_heads", "head_dim")
NAMES = {
    "layers": "num_hidden_layers",
    "hidden_size": "hidden_size",
    "intermediate_size": "intermediate_size",
    "heads": "num_attention_heads",
    "vocab_size": "vocab_size",
    "max_positions": "max_position_embeddings",
}
GPT2_NAMES = {
    "layers": "n_layer",
    "hidden_size": "n_embd",
    "intermediate_size": "n_inner",
    "heads": "n_head",
    "vocab_size": "vocab_size",
    "max_positions": "n_positions",
}
RESERVED_POSITIONS = {"roberta": 2}
"""position embeddings that no token uses"""


def describe(folder: str | Path, pickled: bool = False) -> dict[str, Any]:
    """The fields of ModelConfig that the folder's config.json fixes, and ``name``, the folder's name.

    DataError if there is no such folder, config.json, safetensors or tokenizer file, if config.json is damaged,
    or if its architecture is not supported.
    """
    files = weight_files(folder, pickled)
    folder = Path(folder).expanduser().resolve()
    if not has_vocabulary(folder):
        raise DataError(f"the model folder {folder} has no tokenizer ({', '.join(VOCABULARIES)})")
    found = described(read_config(folder), str(folder))
    check_size(found, files, str(folder))
    return {"name": folder.name, **found}


def check_size(found: Mapping[str, Any], files: list[Path], where: str) -> None:
    """DataError if the weights are far too few for the described model, which could take for ever to build.

    Every layer has two square matrices at least, and no format takes less than half a byte per number.
    """
    width = found["hidden_size"]
    least = (found["vocab_size"] * width + 2 * found["layers"] * width**2) // 4
    try:
        octets = sum(path.stat().st_size for path in files if path.is_file())
    except OSError as error:
        raise DataError(f"the weights in {where} can't be read ({error.strerror or error})") from None
    if octets < least:
        raise DataError(
            f"the weights in {where} are {octets:,} bytes, too few for {found['layers']:,} layers of width {width:,}"
            f" and {found['vocab_size']:,} words, as its config.json says"
        )


def read_config(folder: Path) -> dict[str, Any]:
    """config.json as a dictionary; DataError if it is damaged."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{folder / 'config.json'} can't be read ({error})") from None
    if not isinstance(config, dict):
        raise DataError(f"{folder / 'config.json'} is not a JSON object")
    return config


def described(config: Mapping[str, Any], where: str) -> dict[str, Any]:
    """transformers' config keys, which differ by architecture, as ModelConfig fields; ``where`` is for errors."""
    architecture = config.get("model_type")
    if architecture not in ARCHITECTURES:
        raise DataError(
            f"{where} holds a model of type {architecture}, which is not supported;"
            f" supported: {', '.join(sorted(ARCHITECTURES))}"
        )
    kind = ARCHITECTURES[architecture].kind
    names = GPT2_NAMES if architecture == "gpt2" else NAMES
    fields: dict[str, Any] = {name: config.get(key) for name, key in names.items()}
    if architecture == "gpt2" and fields["intermediate_size"] is None and isinstance(fields["hidden_size"], int):
        fields["intermediate_size"] = 4 * fields["hidden_size"]
    for name, value in fields.items():
        if not isinstance(value, int) or value < 1:
            raise DataError(f"the config.json of {where} has no usable {names[name]} (it says {value!r})")
    fields["max_positions"] -= RESERVED_POSITIONS.get(architecture, 0)
    grouped = architecture != "gpt2" and kind == "decoder"
    fields["kv_heads"] = (config.get("num_key_value_heads") if grouped else None) or fields["heads"]
    fields["head_dim"] = (config.get("head_dim") if grouped else None) or fields["hidden_size"] // fields["heads"]
    return {"architecture": architecture, "kind": kind, **fields}


def complete(model: Mapping[str, Any]) -> dict[str, Any]:
    """The model config with everything that ``model.path`` tells filled in; unchanged without a path.

    ConfigError if model=local has no path, if the folder can't be used, or if it contradicts the config.
    """
    model = dict(model)
    if not model.get("path"):
        if model.get("name") in MISSING:
            raise ConfigError("model=local needs a folder; give model.path=DIR with config.json and *.safetensors")
        return model
    try:
        found = describe(model["path"], bool(model.get("allow_pickle")))
    except DataError as error:
        raise ConfigError(f"model.path={model['path']}: {error}") from None
    check_shape(model, found, f"model.path={model['path']}")
    model.update({key: value for key, value in found.items() if key != "name" or model.get("name") in MISSING})
    model["approximation"] = None
    return model


def check_shape(model: Mapping[str, Any], found: Mapping[str, Any], where: str) -> None:
    """ConfigError if a layer size given in the config is not the one ``found`` in the model's own config.json."""
    for key in SHAPE:
        if model.get(key) not in MISSING and model[key] != found[key]:
            raise ConfigError(
                f"{where} has {key} {found[key]}, but model={model.get('name')} says {model[key]};"
                " use model=local model.path=DIR to take everything from a folder"
            )
