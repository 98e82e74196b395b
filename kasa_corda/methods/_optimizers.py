"""LoRA+ and LoRA-FA, which are optimizers rather than models: an option of every LoRA-shaped method.

LoRA+ (arXiv 2402.12354): B learns ``lr_ratio`` times faster than A. The groups are ours: PEFT's
``create_loraplus_optimizer`` also gives every one-dimensional parameter the high rate, so KaSA's sigma and the biases
of a task head.
LoRA-FA (arXiv 2308.03303): A stays as it was drawn. ``lorafa`` is the paper's form, AdamW on B; ``lorafa_peft`` is what
``peft.optimizers`` does, which also rescales B's gradient to (1 / s^2) grad (A A^T)^-1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import MISSING, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ..config.schema import LowRankConfig, option
from ..errors import ConfigError
from .base import Method

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

CHOICES = ("adamw", "loraplus", "lorafa", "lorafa_peft")


@dataclass
class LoraFamilyConfig(LowRankConfig):
    """Options of every method whose layers are LoRA's."""

    optimizer: str = option(
        "adamw",
        "adamw; loraplus: B learns lr_ratio times faster than A; lorafa: A stays frozen; lorafa_peft: also with PEFT's"
        " rescaled gradient of B",
        choices=CHOICES,
    )
    lr_ratio: float = option(16.0, "learning rate of B over that of A, with optimizer=loraplus", at_least=1)


class LoraOptimizers(Method):
    """Reads ``config.optimizer``. ``adapt`` has to end with ``hold``."""

    rescalable: ClassVar[bool] = True
    """whether the update is s B A, for which LoRA-FA's rescaled gradient is derived"""

    def check_optimizer(self) -> None:
        """ConfigError for an optimizer that is not defined for this method."""
        if self.config.optimizer == "lorafa_peft" and not self.rescalable:
            raise ConfigError(
                f"method.optimizer=lorafa_peft rescales the gradient of an update B A, which method={self.config.name}"
                " doesn't have; use method.optimizer=lorafa"
            )

    def hold(self, model: nn.Module) -> None:
        """Freeze what this optimizer doesn't train."""
        if self.config.optimizer.startswith("lorafa"):
            for _, A, _, _ in adapters(model):
                A.requires_grad_(False)

    def variant(self) -> str | None:
        default = type(self.config).__dataclass_fields__["optimizer"].default
        named = [super().variant()]
        if default is not MISSING and self.config.optimizer != default:
            named.append(self.config.optimizer)
        return ", ".join(name for name in named if name) or None

    def parameter_groups(self, model: nn.Module, learning_rate: float) -> list[dict[str, Any]] | None:
        if self.config.optimizer != "loraplus":
            return None
        fast = {id(B) for _, _, B, _ in adapters(model)}
        groups: tuple[list[Tensor], list[Tensor]] = [], []
        for parameter in model.parameters():
            if parameter.requires_grad:
                groups[id(parameter) in fast].append(parameter)
        rates = learning_rate, learning_rate * self.config.lr_ratio
        return [{"params": params, "lr": rate} for params, rate in zip(groups, rates, strict=True)]

    def optimizer(self, model: nn.Module, groups: list[dict[str, Any]], **adamw: Any) -> torch.optim.Optimizer | None:
        if self.config.optimizer != "lorafa_peft":
            return None
        from peft.optimizers.lorafa import LoraFAOptimizer

        pairs = {id(B): (name, A, scale) for name, A, B, scale in adapters(model)}
        paired: Any = [_paired(group, pairs, index) for index, group in enumerate(groups)]
        return LoraFAOptimizer(paired, **adamw)


def adapters(model: nn.Module) -> Iterator[tuple[str, Tensor, Tensor, float]]:
    """Name of every LoRA layer, its A (r, in), its B (out, r) and the scale before B A."""
    from peft.tuners.lora import LoraLayer

    for name, layer in model.named_modules():
        if isinstance(layer, LoraLayer):
            for adapter, scale in layer.scaling.items():
                down: Any = layer.lora_A[adapter]
                up: Any = layer.lora_B[adapter]
                yield name, down.weight, up.weight, scale


def _paired(group: dict[str, Any], pairs: dict[int, tuple[str, Tensor, float]], index: int) -> dict[str, Any]:
    """The group as PEFT's optimizer reads it: A before its B, both with names that contain "lora", others without."""
    parameters: list[Tensor] = []
    names: list[str] = []
    scales: list[float | None] = []
    for position, parameter in enumerate(group["params"]):
        if id(parameter) in pairs:
            name, A, scale = pairs[id(parameter)]
            parameters += [A, parameter]
            names += [f"{name}.lora_A", f"{name}.lora_B"]
            scales += [scale, scale]
        else:
            parameters.append(parameter)
            names.append(f"group{index}.{position}")
            scales.append(None)
    return {**group, "params": parameters, "names": names, "scaling_factors": scales}
