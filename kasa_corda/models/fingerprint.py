"""What a model folder must hold, and telling folders apart without reading gigabytes (no torch)."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from ..errors import DataError

SAMPLE_BYTES = 64 * 1024
VOCABULARIES = ("tokenizer.json", "vocab.txt", "vocab.json", "spm.model", "tokenizer.model", "sentencepiece*.model")
PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt")


def weight_files(folder: str | Path, pickled: bool = False) -> list[Path]:
    """The safetensors files of a model folder, by name; DataError if there is no folder, config.json or weights.

    ``pickled``: where there are none, pytorch_model*.bin instead.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise DataError(f"the model folder {folder} does not exist")
    if not (folder / "config.json").is_file():
        raise DataError(f"the model folder {folder} has no config.json")
    files = sorted(folder.glob("model*.safetensors")) or sorted(folder.glob("*.safetensors"))
    if files:
        _shards_are_safetensors(folder / "model.safetensors.index.json")
        return files
    if pickled and (files := sorted(folder.glob("pytorch_model*.bin"))):
        return files
    if any(next(folder.glob(pattern), None) for pattern in PICKLED):
        raise DataError(
            f"the model folder {folder} holds only pickled weights, which are not opened because they can run code;"
            " convert them to safetensors, or let torch's reader for weights alone read its pytorch_model*.bin by"
            " model.allow_pickle=true"
        )
    raise DataError(f"the model folder {folder} has no *.safetensors weights")


def _shards_are_safetensors(index: Path) -> None:
    """DataError if an index of safetensors names a file of another kind, which transformers would unpickle."""
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return  # none, or a damaged one, which is told when it is loaded
    for name in sorted(map(str, names)):
        if not name.endswith(".safetensors") or "/" in name or "\\" in name:
            raise DataError(f"{index} names the file {name!r}; weights are *.safetensors beside it, nothing else")


def has_vocabulary(folder: str | Path) -> bool:
    """Whether there is a tokenizer file; without one, transformers makes up a tokenizer of unknown words only."""
    return any(next(Path(folder).expanduser().glob(pattern), None) for pattern in VOCABULARIES)


def sampled_fingerprint(folder: str | Path, pickled: bool = False) -> str:
    """First 16 hex digits of a sha256 over config.json and, per weight file, name, size and both ends (64 KiB each)."""
    return sampled_digest(Path(folder).expanduser() / "config.json", weight_files(folder, pickled))


def sampled_digest(description: Path, files: list[Path]) -> str:
    """The same over any description and weight files."""
    digest = hashlib.sha256(description.read_bytes())
    for path in files:
        try:
            size = path.stat().st_size
            digest.update(f"\0{path.name}\0{size}\0".encode())
            with path.open("rb") as file:
                digest.update(file.read(SAMPLE_BYTES))
                file.seek(max(0, size - SAMPLE_BYTES))
                digest.update(file.read(SAMPLE_BYTES))
        except OSError as error:
            raise DataError(f"{path} can't be read ({error.strerror or error})") from None
    return digest.hexdigest()[:16]
