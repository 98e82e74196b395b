"""Linear probe: only the task head is trained on the frozen model. The floor any method has to beat."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ConfigError
from . import METHODS
from .base import AdaptContext, Facts, Method

if TYPE_CHECKING:
    from torch import nn

FILE = "head.safetensors"


@METHODS.register("probe")
class LinearProbe(Method):
    facts = Facts("selection", "linear probe", "nothing")
    adapts_layers = False
    needs_head = True
    LEARNING_RATES = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)

    def adapt(self, model: nn.Module, context: AdaptContext) -> nn.Module:
        if not context.head:
            raise ConfigError("method=probe trains a task head, which a language model doesn't have; use method=lora")
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(any(part in context.head for part in name.split(".")))
        return model

    def save(self, model: nn.Module, directory: Path, base: str) -> None:
        from safetensors.torch import save_file

        directory.mkdir(parents=True, exist_ok=True)
        save_file({name: t.contiguous() for name, t in self.trained_state(model).items()}, directory / FILE)

    def load(self, model: nn.Module, directory: Path) -> nn.Module:
        from safetensors.torch import load_file

        self.restore(model, load_file(directory / FILE))
        return model
