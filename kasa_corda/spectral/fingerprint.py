"""A name for the content of a tensor that changes with any byte, its type or its shape.

On the CPU it is the sha256 of the bytes. From a GPU, copying 13 GB and hashing them takes longer than computing most
subspaces, so there each row of 4096 32-bit words is first compressed on the device to four 64-bit sums
sum_i a_i w_i mod 2^64 with fixed random a_i (multilinear universal hashing, Carter and Wegman 1979), and the sha256 is
taken over the sums. Two rows that differ collide in one sum with probability at most 2^-32, in all four at most
2^-128, over the choice of the a_i. They were drawn independently of any weights, so this tells weights apart as well
as sha256 does; it is no protection against somebody who constructs weights to collide, which a cache of one's own
results does not need. The two kinds never equal each other: one model used on both devices has two sets of entries.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

import torch
from torch import Tensor

ROW = 4096
"""32-bit words compressed together"""
LANES = 4
CHUNK = 2**24
"""words widened to 64 bits at a time (128 MiB)"""


@torch.no_grad()
def fingerprint(tensor: Tensor) -> str:
    """Hex digest of dtype, shape and every byte."""
    octets = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
    digest = hashlib.sha256(f"{tensor.dtype} {tuple(tensor.shape)} ".encode())
    if tensor.device.type == "cpu":
        digest.update(b"sha256 ")
        digest.update(octets.numpy().data)
    else:
        digest.update(b"multilinear ")
        digest.update(row_sums(octets).cpu().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def row_sums(octets: Tensor) -> Tensor:
    """(rows, LANES) int64 keyed sums of the bytes, padded with zeros to whole rows."""
    short = -octets.numel() % (4 * ROW)
    padded = torch.nn.functional.pad(octets, (0, short)) if short else octets
    words = padded.view(torch.int32).view(-1, ROW)
    keys = _keys(octets.device)
    sums = torch.empty(len(words), LANES, dtype=torch.int64, device=octets.device)
    for part, target in zip(words.split(CHUNK // ROW), sums.split(CHUNK // ROW), strict=True):
        wide = part.long()
        for lane in range(LANES):
            target[:, lane] = (wide * keys[lane]).sum(1)  # int64 arithmetic wraps, which is the modulus wanted
    return sums


@lru_cache(maxsize=8)
def _keys(device: torch.device) -> Tensor:
    octets = hashlib.shake_256(b"kasa_corda spectral cache").digest(8 * LANES * ROW)
    return torch.frombuffer(bytearray(octets), dtype=torch.int64).view(LANES, ROW).to(device)
