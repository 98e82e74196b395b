"""Where data-driven starts are kept while a run is not finished: as CorDA's preparation, in the run directory."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ..corda.state import PreparationState, fingerprint


def state_of(
    folder: Path | None,
    layers: Mapping[str, nn.Module],
    batches: Sequence[Mapping[str, Tensor]],
    options: Mapping[str, Any],
) -> PreparationState:
    """What an interrupted run, or another process of this one, has found for these weights, batches and options."""
    digest = hashlib.sha256()
    for batch in batches:
        for name in sorted(batch):
            tensor = batch[name].cpu().contiguous()
            digest.update(f"{name} {tuple(tensor.shape)}".encode() + tensor.numpy().tobytes())
    return PreparationState(
        folder, {"model": fingerprint(layers), "batches": digest.hexdigest()[:16], "options": dict(options)}
    )
