"""What our own methods share that wrap single linear layers: wrap each target, write the LoRA form."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError
from ._own import OwnMethod, replace, wrappers
from .base import AdaptContext

if TYPE_CHECKING:
    from torch import nn

    from ._linear import LinearWrapper


class LinearMethod(OwnMethod):
    """A method with one wrapper per target layer (nn.Linear, GPT-2's Conv1D, packed weights)."""

    @abstractmethod
    def wrap(self, name: str, layer: nn.Module) -> LinearWrapper:
        """The wrapper around the layer of that full name."""

    def insert(self, model: nn.Module, context: AdaptContext) -> None:
        shared = shared_weights(model)
        for name in context.targets:
            layer: Any = model.get_submodule(name)
            if id(layer.weight) in shared:
                raise ConfigError(
                    f"layer {name} shares its weight with another layer, which merging would change too; leave it out"
                    " of method.target_modules"
                )
            replace(model, name, self.wrap(name, layer).train(layer.training))


class LowRankMethod(LinearMethod):
    """A method whose trained model is a plain LoRA as well: its wrappers have ``as_lora`` and ``scale``."""

    def save_as_lora(self, model: nn.Module, directory: Path, base: str) -> None:
        from peft import LoraConfig
        from safetensors.torch import save_file

        assert self.context is not None
        context, inside = self.context, dict(wrappers(model))
        kept = [*context.head, *context.frozen]
        state = {n: t for n, t in model.state_dict().items() if any(part in kept for part in n.split("."))}
        rank, alpha, conv1d = 0, 0.0, False
        for name, layer in inside.items():
            state[f"{name}.lora_A.weight"], state[f"{name}.lora_B.weight"] = A, _ = layer.as_lora()
            rank, alpha, conv1d = len(A), layer.scale * len(A), type(layer.base).__name__ == "Conv1D"
        config = LoraConfig(
            r=rank,
            lora_alpha=alpha,  # type: ignore[arg-type]
            target_modules=list(inside),
            modules_to_save=kept or None,
            task_type=context.task_type,
            fan_in_fan_out=conv1d,
            base_model_name_or_path=base,
            inference_mode=True,
        )
        directory.mkdir(parents=True, exist_ok=True)
        config.save_pretrained(str(directory))
        tensors = {f"base_model.model.{n}": t.detach().cpu().clone().contiguous() for n, t in state.items()}
        save_file(tensors, directory / "adapter_model.safetensors", metadata={"format": "pt"})


def shared_weights(model: nn.Module) -> set[int]:
    """Identities of the parameters that more than one module holds (tied embeddings)."""
    seen: set[int] = set()
    twice: set[int] = set()
    for _, parameter in model.named_parameters(remove_duplicate=False):
        (twice if id(parameter) in seen else seen).add(id(parameter))
    return twice
