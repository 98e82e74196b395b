"""kasa_corda: does KaSA or CorDA really beat LoRA, and can one see it?

What a notebook or another project may rely on; everything is imported when first used.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from .lazy import lazily

# Idle OpenMP threads sleep instead of spinning: read when torch is first imported. On cores shared with anything else,
# spinning makes a training step several times slower (docs/decisions.md).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Page-locked memory (offloaded hidden states): touched by several threads and registered, 4 GiB take 1 s, not 4.
if "PYTORCH_ALLOC_CONF" not in os.environ:
    os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "pinned_use_cuda_host_register:True,pinned_num_register_threads:8")

if TYPE_CHECKING:
    from .api import Adapted, adapt, evaluate
    from .calibration import collect_covariances
    from .corda import corda_factors
    from .kasa.truncation import kasa_truncate
    from .methods._own import load_adapter
    from .regulariser import kasa_regulariser
    from .spectral import bottom_subspace, top_subspace
    from .trained import load_run

_HOME = {
    "Adapted": "api",
    "adapt": "api",
    "bottom_subspace": "spectral",
    "collect_covariances": "calibration",
    "corda_factors": "corda",
    "evaluate": "api",
    "kasa_regulariser": "regulariser",
    "kasa_truncate": "kasa.truncation",
    "load_adapter": "methods._own",
    "load_run": "trained",
    "top_subspace": "spectral",
}

__all__ = [
    "Adapted",
    "adapt",
    "bottom_subspace",
    "collect_covariances",
    "corda_factors",
    "evaluate",
    "kasa_regulariser",
    "kasa_truncate",
    "load_adapter",
    "load_run",
    "top_subspace",
]

__getattr__ = lazily(__name__, _HOME)
