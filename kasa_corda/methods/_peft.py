"""What all methods that live in PEFT share: build from a PeftConfig, save, load, merge."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError
from .base import AdaptContext, Method

if TYPE_CHECKING:
    from peft import PeftConfig
    from torch import nn


class PeftMethod(Method):
    """A method whose layers, storage and merging are PEFT's own."""

    @abstractmethod
    def peft_config(self, context: AdaptContext) -> PeftConfig:
        """The PEFT config of this method for one model."""

    def adapt(self, model: nn.Module, context: AdaptContext) -> nn.Module:
        from peft import get_peft_model

        adapted = get_peft_model(model, self.peft_config(context))
        keep_frozen(adapted, context.frozen)
        return adapted

    def save(self, model: Any, directory: Path, base: str) -> None:
        for config in model.peft_config.values():
            config.base_model_name_or_path = base
        model.save_pretrained(directory, save_embedding_layers=False)

    def load(self, model: nn.Module, directory: Path) -> nn.Module:
        from peft import PeftModel

        return PeftModel.from_pretrained(model, directory)

    def merge(self, model: Any) -> nn.Module:
        return model.merge_and_unload()


def lora_arguments(config: Any, context: AdaptContext) -> dict[str, Any]:
    """The LoraConfig arguments that every LoRA-shaped method sets from its options."""
    return {
        "task_type": context.task_type,
        "r": config.rank,
        "lora_alpha": config.alpha,
        "lora_dropout": config.dropout,
        "target_modules": context.targets,
        "modules_to_save": [*context.head, *context.frozen] or None,
    }


def keep_frozen(model: Any, modules: list[str]) -> None:
    """Freeze what PEFT stores only because the base checkpoint lacks it; storing a module makes it trainable there."""
    for name, parameter in model.named_parameters():
        if any(part in modules for part in name.split(".")):
            parameter.requires_grad_(False)


def check_rank(rank: int, shapes: dict[str, tuple[int, int]], *, below_full: bool = False) -> None:
    """ConfigError if the rank does not fit the smallest target layer (out, in)."""
    name, shape = min(shapes.items(), key=lambda item: min(item[1]))
    limit = min(shape) - below_full
    if rank > limit:
        reason = "keeps no component of" if below_full else "is larger than"
        raise ConfigError(
            f"method.rank={rank} {reason} layer {name} ({shape[0]} x {shape[1]}); use method.rank={limit} or less"
        )
