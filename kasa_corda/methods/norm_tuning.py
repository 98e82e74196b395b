"""Norm tuning (arXiv 2312.11420): only the gains and biases of the normalisation layers are trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import METHODS
from ._own import OwnMethod
from .base import AdaptContext, Facts

if TYPE_CHECKING:
    from torch import nn


@METHODS.register("norm_tuning")
class NormTuning(OwnMethod):
    facts = Facts("selection", "arXiv 2312.11420", "gains and biases of every normalisation layer")
    adapts_layers = False

    def insert(self, model: nn.Module, context: AdaptContext) -> None:
        for module in model.modules():
            if type(module).__name__.endswith(("LayerNorm", "RMSNorm")):
                module.requires_grad_(True)
