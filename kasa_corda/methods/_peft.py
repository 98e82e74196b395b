"""What all methods that live in PEFT share: build from a PeftConfig, save, load, merge."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

from ..config.schema import MethodConfig, option
from ..errors import ConfigError, DataError
from .base import AdaptContext, Method, head_parameters

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

        config = self.peft_config(context)
        if hasattr(config, "fan_in_fan_out"):  # else PEFT warns at every layer, and then sets it
            config.fan_in_fan_out = stores_transposed(model)
        adapted = get_peft_model(model, config)
        keep_frozen(adapted, context.frozen)
        return adapted

    def save(self, model: Any, directory: Path, base: str) -> None:
        for config in model.peft_config.values():
            config.base_model_name_or_path = base
        model.save_pretrained(directory, save_embedding_layers=False)

    def load(self, model: nn.Module, directory: Path) -> nn.Module:
        from peft import PeftModel

        adapted = PeftModel.from_pretrained(model, directory)
        for config in adapted.peft_config.values():
            if config.is_prompt_learning:
                raise DataError(f"the adapter in {directory} is of type {config.peft_type}, not {self.config.name}")
        return adapted

    def merge(self, model: Any) -> nn.Module:
        unwrap_stored_modules(model)
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


def tuner_arguments(context: AdaptContext) -> dict[str, Any]:
    """The arguments that the configs of all PEFT tuners share."""
    return {
        "task_type": context.task_type,
        "target_modules": context.targets,
        "modules_to_save": [*context.head, *context.frozen] or None,
    }


@dataclass
class OwnHeadRate(MethodConfig):
    """Options of a method whose own learning rate would destroy a task head."""

    head_learning_rate: Optional[float] = option(
        1e-3,
        "peak learning rate of the task head where trainer.head_learning_rate is not given, since the method's own is"
        " too high for it; null is the method's",
        above=0,
    )


def head_apart(
    model: nn.Module, head: Iterable[str], learning_rate: float, head_rate: float | None
) -> list[dict[str, Any]] | None:
    """Optimizer groups: the adapter at ``learning_rate``, the task head at ``head_rate``; None without either."""
    names = set(head_parameters(model, head))
    if head_rate is None or not names:
        return None
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    return [
        {"params": [p for n, p in trained.items() if n not in names], "lr": learning_rate},
        {"params": [p for n, p in trained.items() if n in names], "lr": head_rate},
    ]


def stores_transposed(model: nn.Module) -> bool:
    """Whether the model's linear layers hold their weights (in, out): GPT-2's Conv1D."""
    from transformers.pytorch_utils import Conv1D

    return any(isinstance(module, Conv1D) for module in model.modules())


def unwrap_stored_modules(model: Any) -> None:
    """Put the trained copies of task head and fresh modules in the place of PEFT's wrappers.

    PEFT's ``merge_and_unload`` expects each to have a weight, which RoBERTa's head of two layers doesn't.
    """
    from peft.utils import ModulesToSaveWrapper

    for name, module in list(model.named_modules()):
        if isinstance(module, ModulesToSaveWrapper):
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, module.modules_to_save[module.active_adapters[0]])


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
