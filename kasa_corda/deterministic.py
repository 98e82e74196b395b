"""``deterministic=true``: the same bits again on one GPU. A CPU gives them anyway, with the same number of threads."""

from __future__ import annotations

import os

import torch

from .errors import KasaCordaError

VARIABLE = "CUBLAS_WORKSPACE_CONFIG"
FIXED = (":4096:8", ":16:8")
"""workspaces with which cuBLAS repeats its results (its documentation, "Results reproducibility")"""


def set_deterministic(wanted: bool) -> None:
    """Make torch use deterministic algorithms only, or no longer; an operation without one then raises RuntimeError.

    KasaCordaError where cuBLAS was started by an earlier run of this process and can no longer be told.
    """
    if wanted and torch.cuda.is_available() and os.environ.get(VARIABLE) not in FIXED:
        if torch.cuda.is_initialized():
            raise KasaCordaError(
                "deterministic=true has to be known before this process first uses the GPU; run it in a process of its"
                f" own, or start with {VARIABLE}={FIXED[0]} in the environment"
            )
        os.environ[VARIABLE] = FIXED[0]
    torch.use_deterministic_algorithms(wanted)
    torch.backends.cudnn.deterministic = wanted
    if wanted:
        torch.backends.cudnn.benchmark = False
