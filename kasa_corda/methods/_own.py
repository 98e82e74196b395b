"""What methods share whose layers are ours: wrap modules, store what they hold, load, merge."""

from __future__ import annotations

import json
from abc import abstractmethod
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError, DataError
from .base import AdaptContext, Method

if TYPE_CHECKING:
    from torch import Tensor, nn

WEIGHTS = "adapter.safetensors"
DESCRIPTION = "adapter.json"
FORMAT = 1


class OwnMethod(Method):
    """A method that puts modules of its own around modules of the model.

    A wrapper is an ``nn.Module`` with ``wraps = "name of the child that is the original module"``; the rest of it
    belongs to the adapter and is stored, trained or not. Wrappers of mergeable methods have ``merged() -> nn.Module``.
    Stored: ``adapter.safetensors`` (adapter, task head, fresh frozen modules) and ``adapter.json`` (method, options,
    targets), which ``load_adapter`` reads.
    """

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.context: AdaptContext | None = None

    @abstractmethod
    def insert(self, model: nn.Module, context: AdaptContext) -> None:
        """Wrap modules of the model in place. All parameters are frozen before; set requires_grad on what trains.

        Called anew when a stored adapter is loaded: what it draws at random must be in parameters or buffers of the
        wrappers, which are then overwritten.
        """

    def adapt(self, model: nn.Module, context: AdaptContext) -> nn.Module:
        self.context = context
        model.requires_grad_(False)
        self.insert(model, context)
        for name, parameter in model.named_parameters():
            if any(part in context.head for part in name.split(".")):
                parameter.requires_grad_(True)
        return model

    def stored_state(self, model: nn.Module) -> dict[str, Tensor]:
        """Everything the untouched base does not hold."""
        fresh = [] if self.context is None else self.context.frozen
        state: dict[str, Tensor] = {n: p for n, p in model.named_parameters() if p.requires_grad}
        state |= {n: t for n, t in model.state_dict().items() if any(part in fresh for part in n.split("."))}
        for name, module in wrappers(model):
            prefix = f"{name}.{module.wraps}."
            state |= {
                full: tensor
                for key, tensor in module.state_dict().items()
                if not (full := f"{name}.{key}").startswith(prefix)
            }
        return {name: tensor.detach() for name, tensor in state.items()}

    def save(self, model: nn.Module, directory: Path, base: str) -> None:
        from safetensors.torch import save_file

        assert self.context is not None
        directory.mkdir(parents=True, exist_ok=True)
        save_file({n: t.cpu().contiguous() for n, t in self.stored_state(model).items()}, directory / WEIGHTS)
        described = {
            "format": FORMAT,
            "method": self.config.name,
            "options": asdict(self.config),
            "base_model": base,
            "targets": self.context.targets,
            "head": self.context.head,
            "frozen": self.context.frozen,
            "task_type": self.context.task_type,
            "seed": self.context.seed,
        }
        (directory / DESCRIPTION).write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")

    def load(self, model: nn.Module, directory: Path) -> nn.Module:
        import torch
        from safetensors.torch import load_file

        described = description(directory)
        context = AdaptContext(
            described["targets"],
            described["head"],
            described["task_type"],
            described["seed"],
            total_steps=0,
            frozen=described["frozen"],
        )
        adapted = self.adapt(model, context)
        present = dict(adapted.named_parameters()) | dict(adapted.named_buffers())
        with torch.no_grad():
            for name, tensor in load_file(directory / WEIGHTS).items():
                if name not in present or present[name].shape != tensor.shape:
                    raise DataError(f"{directory / WEIGHTS}: {name} {tuple(tensor.shape)} doesn't fit this base model")
                present[name].copy_(tensor)
        return adapted

    def merge(self, model: nn.Module) -> nn.Module:
        if not self.facts.merges:
            raise ConfigError(f"method={self.config.name} can't be merged: {self.facts.trains}")
        for name, module in list(wrappers(model)):
            replace(model, name, module.merged())
        return model


def wrappers(model: nn.Module) -> list[tuple[str, Any]]:
    """Name and module of every wrapper, outermost first."""
    return [(name, module) for name, module in model.named_modules() if isinstance(getattr(module, "wraps", None), str)]


def replace(model: nn.Module, name: str, module: nn.Module) -> None:
    """Put ``module`` in the place of the submodule of that name."""
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, module)


def description(directory: Path) -> dict[str, Any]:
    """The stored adapter's description; DataError if it is missing, broken or of another format."""
    path = directory / DESCRIPTION
    try:
        described = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} can't be read: {error}") from None
    if not isinstance(described, dict) or described.get("format") != FORMAT:
        raise DataError(f"{path} is not of format {FORMAT}")
    return described


def load_adapter(model: nn.Module, directory: Path | str) -> nn.Module:
    """Put a stored adapter of one of our own methods onto its untouched base model, for inference.

    ``directory`` holds adapter.safetensors and adapter.json. DataError if they don't fit the model.
    """
    from . import METHODS

    described = description(Path(directory))
    chosen = METHODS[described["method"]]
    return chosen(chosen.Config(**described["options"])).load(model, Path(directory)).eval()
