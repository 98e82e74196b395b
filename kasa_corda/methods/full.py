"""Full fine-tuning: every parameter is trained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import METHODS
from .base import AdaptContext, Facts, Method

if TYPE_CHECKING:
    from torch import nn


@METHODS.register("full")
class FullFineTuning(Method):
    facts = Facts("selection", "full fine-tuning", "every parameter")
    adapts_layers = False
    LEARNING_RATES = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3)

    def adapt(self, model: nn.Module, context: AdaptContext) -> nn.Module:
        for parameter in model.parameters():
            parameter.requires_grad_(True)
        return model

    def save(self, model: Any, directory: Path, base: str) -> None:
        from ..models.quiet import quiet

        with quiet():
            model.save_pretrained(directory)

    def load(self, model: nn.Module, directory: Path) -> nn.Module:
        from accelerate import load_checkpoint_in_model

        load_checkpoint_in_model(model, str(directory))
        return model
