"""The file of one stored subspace: safetensors with everything else, and a checksum, in its metadata."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor

from .accuracy import Evidence
from .subspace import Subspace

FORMAT = "1"
FIELDS = ("side", "residual", "route", "fallback", "error", "resolved")
NUMBERS = ("next_value", "next_residual", "noise", "norm", "squared")
UNREADABLE = (OSError, SafetensorError, KeyError, ValueError, TypeError)


def packed(key: str, subspace: Subspace, about: Mapping[str, str]) -> bytes:
    """The bytes of the file; ``about`` goes into its metadata."""
    tensors = {"basis": subspace.basis.cpu().contiguous(), "values": subspace.values.cpu().contiguous()}
    described = {name: getattr(subspace, name) for name in FIELDS}
    if subspace.evidence is not None:
        evidence = subspace.evidence
        tensors["residuals"] = evidence.residuals.cpu().contiguous()
        described |= {name: getattr(evidence, name) for name in NUMBERS}
    text = json.dumps(described)
    metadata = {
        **about,
        "format": FORMAT,
        "key": key,
        "rank": str(len(subspace.values)),
        "subspace": text,
        "checksum": _checksum(tensors, text),
    }
    return save(tensors, metadata)


def read(path: Path, key: str, device: torch.device) -> Subspace:
    """The subspace on ``device``; one of UNREADABLE if the file isn't what was written under this key."""
    content = path.read_bytes()  # once: safe_open opens by name again for the tensors, and another file may be there
    tensors, metadata = load(content), _metadata(content)
    if metadata.get("key") != key or metadata.get("format") != FORMAT:
        raise ValueError("it belongs to another matrix or version")
    if metadata["checksum"] != _checksum(tensors, metadata["subspace"]):
        raise ValueError("its content doesn't match its checksum")
    described = json.loads(metadata["subspace"])
    numbers = {name: described.pop(name) for name in NUMBERS if name in described}
    values = tensors["values"].to(device)
    evidence = Evidence(tensors["residuals"].to(device), **numbers) if numbers else None
    return Subspace(tensors["basis"].to(device), values, evidence=evidence, **described)


def _metadata(content: bytes) -> dict[str, str]:
    """What stands beside the tensors of a safetensors file: 8 octets of length, then a JSON header."""
    length = int.from_bytes(content[:8], "little")
    found = json.loads(content[8 : 8 + length]).get("__metadata__")
    return found if isinstance(found, dict) else {}


def _checksum(tensors: Mapping[str, Tensor], text: str) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)} ".encode())
        digest.update(tensors[name].reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def metadata_of(path: Path) -> Mapping[str, str]:
    """Its metadata; empty if the file can't be read."""
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    except UNREADABLE:
        return {}
