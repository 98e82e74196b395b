"""Finished blocks of a preparation on disk, so that an interrupted one goes on where it was."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ..store import follow_umask, write_atomically
from .kept import keep, kept_folder, used

IDENTITY = "identity.json"
SAMPLED = 4096
"""numbers of each weight that its fingerprint reads"""

Adapter = tuple[Tensor, Tensor]
"""A (r, in) and B (out, r)"""


class PreparationState:
    """A folder with one file per block: adapters of its layers and what was found about them. Each file is atomic.

    A folder that belongs to another model, calibration set or method is emptied. Without a folder, or with one that
    can't be written, nothing is kept and ``note`` says why. In a sweep the files are also kept for other runs.
    """

    def __init__(self, folder: Path | None, identity: Mapping[str, Any]) -> None:
        self.folder = folder
        self.note: str | None = None
        self.kept: Path | None = None
        if folder is None:
            return
        text = json.dumps(identity, sort_keys=True, default=str)
        self.kept = kept_folder(text)
        path = folder / IDENTITY
        try:
            if not path.exists() or path.read_bytes() != text.encode():
                shutil.rmtree(folder, ignore_errors=True)
                write_atomically(path, text)
        except OSError as error:
            self._give_up(error)

    def has(self, block: str) -> bool:
        """Whether a block is finished and readable."""
        return self.load(block) is not None

    def load(self, block: str) -> tuple[dict[str, Adapter], list[dict[str, Any]]] | None:
        """Adapters by layer and diagnostics of a finished block; None if it is not there or damaged."""
        path = self._found(self._name(block))
        if path is None:
            return None
        try:
            with safe_open(path, framework="pt") as file:
                rows = json.loads(file.metadata()["diagnostics"])
                adapters = {
                    row["layer"]: (file.get_tensor(f"{row['layer']}.A"), file.get_tensor(f"{row['layer']}.B"))
                    for row in rows
                }
        except Exception:
            # a damaged file is worth no more than a missing one: the block is done again
            return None
        return adapters, rows

    def save(self, block: str, adapters: Mapping[str, Adapter], rows: list[dict[str, Any]]) -> None:
        if self.folder is None:
            return
        tensors = {f"{layer}.{name}": t for layer, pair in adapters.items() for name, t in zip("AB", pair, strict=True)}
        building = self._file(block).with_suffix(f".{os.getpid()}.tmp")
        try:
            save_file(tensors, building, metadata={"diagnostics": json.dumps(rows)})
            follow_umask(building)
            building.replace(self._file(block))
            if self.kept is not None:
                keep(self._file(block), self.kept)
        except Exception as error:
            # safetensors raises its own error for a full disk
            building.unlink(missing_ok=True)
            self._give_up(error)

    def load_note(self, name: str) -> Any:
        """What ``save_note`` wrote, or None."""
        path = self._found(f"{name}.json")
        try:
            return json.loads(path.read_text(encoding="utf-8")) if path else None
        except (OSError, ValueError, RecursionError):
            return None

    def save_note(self, name: str, content: Any) -> None:
        if self.folder is None:
            return
        try:
            write_atomically(self.folder / f"{name}.json", json.dumps(content))
            if self.kept is not None:
                keep(self.folder / f"{name}.json", self.kept)
        except OSError as error:
            self._give_up(error)

    def _file(self, block: str) -> Path:
        assert self.folder is not None
        return self.folder / self._name(block)

    def _name(self, block: str) -> str:
        return f"block-{block or 'outside'}.safetensors"

    def _found(self, name: str) -> Path | None:
        """The run's own file, or the one that another run kept."""
        if self.folder is not None and (self.folder / name).exists():
            return self.folder / name
        if self.kept is not None and (self.kept / name).exists():
            used(self.kept)
            return self.kept / name
        return None

    def _give_up(self, error: Exception) -> None:
        self.note = f"finished blocks are not kept, an interrupted preparation starts again: {self.folder} ({error})"
        self.folder = None


def fingerprint(layers: Mapping[str, nn.Module]) -> str:
    """First 16 hex digits of a sha256 over name, shape and SAMPLED evenly spaced numbers of every layer's weight."""
    digest = hashlib.sha256()
    for name, layer in layers.items():
        weight: Any = layer.weight
        flat = weight.detach().flatten()
        sample = flat[:: max(1, len(flat) // SAMPLED)].to(torch.float32).cpu().contiguous()
        digest.update(f"{name} {tuple(weight.shape)}".encode() + sample.numpy().tobytes())
    return digest.hexdigest()[:16]
