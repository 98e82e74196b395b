"""What a fine-tuning method must offer. Register a subclass with ``@METHODS.register("name")``.

Only ``adapt`` is mandatory; every other hook has the default of a method that doesn't need it.
Keep torch, transformers and peft inside the functions: registered modules must import at once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ..config.schema import MethodConfig
from ..errors import ConfigError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from ..calibration import Calibration


@dataclass(frozen=True)
class AdaptContext:
    """What a method may know of the run besides its own options."""

    targets: list[str]
    """full names of the linear layers to adapt, already matched against the model"""
    head: list[str]
    """names of the freshly initialised task-head modules (always trained); empty for a language model"""
    task_type: str
    """peft task type: SEQ_CLS or CAUSAL_LM"""
    seed: int
    total_steps: int
    frozen: list[str] = field(default_factory=list)
    """names of freshly initialised modules that stay frozen (DeBERTa's pooler); stored with the adapter"""
    calibration: Calibration | None = None
    """the calibration samples, for methods that are ``calibrated``"""
    batches: Callable[[int, int], Iterator[dict[str, Tensor]]] | None = None
    """``batches(count, size)``: labelled training batches on the computing device, drawn from the seed; None where
    there is no training set"""
    folder: Path | None = None
    """where ``prepare`` may keep what an interrupted run, or another process of it, needn't find again"""


@dataclass(frozen=True)
class Facts:
    """What a reader of a comparison must know about a method; ``scripts/methods.py`` lists it."""

    family: str
    """low rank, spectral, bottleneck, prompt, scaling, orthogonal, selection or none"""
    source: str
    """paper (arXiv number) and, where the numbers came from code, the repository"""
    trains: str
    """the parameters that get gradients, besides the task head"""
    merges: bool = True
    """whether ``merge`` gives the same function as a plain transformers model"""
    identity: bool = True
    """whether the forward pass is unchanged before the first step"""
    refuses: dict[str, str] = field(default_factory=dict)
    """model architecture -> why the method can't adapt it"""
    four_bit: bool = False
    """whether it works on a base of packed 4-bit or 8-bit weights"""
    checkpointing: bool = True
    """whether it works with gradient checkpointing"""
    packing: bool = True
    """whether several examples may share a row (``trainer.packing``)"""


class Method(ABC):
    """Turns a pretrained model into a trainable one. One instance serves one run."""

    Config: ClassVar[type[MethodConfig]] = MethodConfig
    facts: ClassVar[Facts]
    trains: ClassVar[bool] = True
    """False for models that are only evaluated"""

    adapts_layers: ClassVar[bool] = True
    """False for methods that ignore target_modules (full fine-tuning, linear probe)"""

    needs_batches: ClassVar[bool] = False
    """True for methods whose ``prepare`` or ``adapt`` needs labelled training batches (``AdaptContext.batches``)"""

    calibrated: ClassVar[bool] = False
    """True for methods whose ``prepare`` needs calibration samples (config group ``calibration``)"""

    needs_head: ClassVar[bool] = False
    """True for methods that train nothing where the model has no task head (a language model)"""

    needs_language_model: ClassVar[bool] = False
    """True for methods that leave a task head untrained"""

    scaled_by: ClassVar[str | None] = "rank"
    """the option (a whole number) that ``method.budget`` chooses: more of it, more parameters. None, or an option that
    the config doesn't have, where nothing scales"""

    LEARNING_RATES: ClassVar[tuple[float, ...]] = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
    """the grid of ``trainer.learning_rate=grid``: at least five values, log-spaced, around the published ones"""

    def __init__(self, config: Any) -> None:
        self.config = config

    @property
    def virtual_tokens(self) -> int:
        """Positions that the method puts before every input."""
        return 0

    def check(self, shapes: dict[str, tuple[int, int]]) -> None:
        """Raise ConfigError if the options contradict the shapes (name -> (out, in)) of the target layers."""

    def prepare(self, model: nn.Module, context: AdaptContext) -> None:
        """Anything that needs data or gradients of the untouched model (covariances, ...)."""

    @abstractmethod
    def adapt(self, model: nn.Module, context: AdaptContext) -> nn.Module:
        """Insert the adapter, freeze what is frozen, and return the model to train."""

    def variant(self) -> str | None:
        """Which of several published forms of the method this is, as tables show it."""
        return getattr(self.config, "variant", None)

    def report(self) -> dict[str, Any]:
        """What a reader of the result should know after ``adapt``, as JSON: ``notes`` (sentences), ``switches``
        (settings in force), ``layers`` (one row of diagnostics per adapted layer)."""
        return {}

    def auxiliary_loss(self, model: nn.Module) -> Tensor | None:
        """A term added to the task loss at every step, or None."""
        return None

    def add_auxiliary_gradient(self, model: nn.Module, scale: float | Tensor) -> Tensor | None:
        """Add ``scale`` times the gradient of ``auxiliary_loss`` to the task's, and return its value.

        Called on every process after the task's gradients are averaged: the auxiliary loss is the same everywhere.
        """
        loss = self.auxiliary_loss(model)
        if loss is None:
            return None
        (loss * scale).backward()
        return loss.detach()

    def parameter_groups(self, model: nn.Module, learning_rate: float) -> list[dict[str, Any]] | None:
        """Optimizer groups for the adapter's parameters, or None for one group at ``learning_rate``."""
        return None

    def optimizer(self, model: nn.Module, groups: list[dict[str, Any]], **adamw: Any) -> torch.optim.Optimizer | None:
        """The method's own optimizer for these groups, ``adamw`` being AdamW's settings; None for AdamW."""
        return None

    def before_step(self, model: nn.Module, step: int) -> None:
        """Called before the forward passes of an optimizer step, with the number of finished steps. The same on every
        process: draw from (seed, step), not from torch's generator."""

    def after_step(self, model: nn.Module, step: int) -> None:
        """Called after each optimizer step, before gradients are cleared."""

    @abstractmethod
    def save(self, model: nn.Module, directory: Path, base: str) -> None:
        """Write the trained parameters so that ``load`` restores them; ``base`` names the base model."""

    @abstractmethod
    def load(self, model: nn.Module, directory: Path) -> nn.Module:
        """Put saved parameters onto an untouched base model (with its task head) and return it for inference."""

    def save_as_lora(self, model: nn.Module, directory: Path, base: str) -> None:
        """Write the trained model as an ordinary PEFT LoRA for the untouched base."""
        raise ConfigError(f"method={self.config.name} has no LoRA form; export it merged")

    def merge(self, model: nn.Module) -> nn.Module:
        """The same function as a plain transformers model without adapter layers."""
        return model

    def trained_state(self, model: nn.Module) -> dict[str, torch.Tensor]:
        """Everything that training changes (parameters and buffers), for checkpoints."""
        return {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}

    def restore(self, model: nn.Module, state: dict[str, torch.Tensor]) -> None:
        """Write a ``trained_state`` back in place."""
        import torch

        parameters = dict(model.named_parameters())
        with torch.no_grad():
            for name, value in state.items():
                parameters[name].copy_(value)


def count_parameters(model: nn.Module, head: Iterable[str]) -> dict[str, int]:
    """Trainable parameters, their split into adapter and head, and all parameters of the model that runs."""
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    names = set(head_parameters(model, head))
    in_head = sum(p.numel() for name, p in model.named_parameters() if name in names)
    total = sum(p.numel() for p in model.parameters())
    return {"trainable": trainable, "adapter": trainable - in_head, "head": in_head, "total": total}


def head_parameters(model: nn.Module, head: Iterable[str]) -> list[str]:
    """Names of the trainable parameters that belong to the task head."""
    heads = tuple(head)
    return [
        name
        for name, p in model.named_parameters()
        if p.requires_grad and any(part in heads for part in name.split("."))
    ]
