"""CorDA (arXiv 2406.05223): the adapter starts as the components of W that matter least (KPA) or most (IPA) for the
calibration inputs, the frozen weight is the rest; the forward pass starts unchanged.

``variant`` names whose CorDA it is; every switch can be set on its own (docs/corda.md).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Optional

from ..config.schema import option
from ..corda.presets import PRESETS, scale_of, switches
from ..errors import KasaCordaError
from . import METHODS
from ._optimizers import LoraFamilyConfig
from ._peft import check_rank, lora_arguments
from .base import AdaptContext, Facts
from .lora import LoraMethod

if TYPE_CHECKING:
    from peft import PeftConfig
    from torch import nn

    from ..corda import Prepared

AS_PRESET = "null is what the preset says"


@dataclass
class CordaConfig(LoraFamilyConfig):
    """Options of both CorDA modes. The switches from ``normalisation`` on are null by default: the preset decides."""

    variant: str = option(
        "paper",
        "preset: the paper's equations, the authors' code, PEFT's, or balanced (the paper's subspaces, A and B of equal"
        " norm)",
        choices=tuple(PRESETS),
    )
    exponent: float = option(
        1.0,
        "power of the covariance: 1 is CorDA, 0 is PiSSA, 0.5 minimises the activation error",
        at_least=0,
        at_most=2,
    )
    normalisation: Optional[str] = option(
        None,
        f"of the calibration inputs: none, signed_max (per sample), token (per token); {AS_PRESET}",
        choices=("none", "signed_max", "token"),
    )
    divisor: Optional[str] = option(
        None,
        f"of the covariance: none, calls (samples), constant_256, tokens; {AS_PRESET}",
        choices=("none", "calls", "constant_256", "tokens"),
    )
    damping: Optional[str] = option(
        None,
        f"when_singular: only what invertibility needs; always: 0.01 x mean diagonal, doubled; {AS_PRESET}",
        choices=("when_singular", "always"),
    )
    balance: Optional[str] = option(
        None,
        "of A and B: singular_values (sqrt(S) each, with the covariance's own scale), mean_one (covariance scaled to a"
        f" mean diagonal of 1), equal (same norm); {AS_PRESET}",
        choices=("singular_values", "mean_one", "equal"),
    )
    scaling: Optional[str] = option(
        None,
        f"scale before B A: paper and authors 1, peft alpha / r; {AS_PRESET}",
        choices=("paper", "authors", "peft"),
    )
    max_condition: float = option(
        1e7, "condition number from which a covariance counts as singular (damping=when_singular)", above=1
    )
    allocation: str = option(
        "uniform",
        "ranks: uniform, or dynamic (CorDA++, experimental) within the parameters of the uniform rank",
        choices=("uniform", "dynamic"),
    )
    storage: str = option(
        "converted",
        "saved as: converted (LoRA of rank 2r for the untouched base), residual (rank r, with the residual weights)",
        choices=("converted", "residual"),
    )


class Corda(LoraMethod):
    """What both modes share."""

    Config = CordaConfig
    calibrated = True
    LEARNING_RATES = (2e-5, 1e-4, 3e-4, 1e-3, 3e-3)
    mode: ClassVar[str]

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.prepared: Prepared | None = None
        self.calibration: dict[str, Any] = {}

    def check(self, shapes: dict[str, tuple[int, int]]) -> None:
        check_rank(self.config.rank, shapes, below_full=True)
        self.check_optimizer()

    def prepare(self, model: nn.Module, context: AdaptContext) -> None:
        from ..corda.decomposition import Recipe
        from ..corda.preparation import prepare

        assert context.calibration is not None
        recipe = Recipe(
            self.mode,
            self.config.rank,
            scale_of(self.config),
            switches(self.config),
            self.config.exponent,
            self.config.max_condition,
            self.config.allocation,
        )
        self.prepared = prepare(model, context.targets, context.calibration, recipe)
        self.calibration = context.calibration.described()

    def peft_config(self, context: AdaptContext) -> PeftConfig:
        from peft import LoraConfig

        arguments = lora_arguments(self.config, context)
        scale = scale_of(self.config)
        arguments["lora_alpha"] = scale * self.config.rank
        if self.prepared is not None and self.prepared.ranks:
            arguments["rank_pattern"] = self.prepared.ranks
            arguments["alpha_pattern"] = {name: scale * rank for name, rank in self.prepared.ranks.items()}
        return LoraConfig(**arguments)

    def adapt(self, model: nn.Module, context: AdaptContext) -> nn.Module:
        import torch

        adapted: Any = super().adapt(model, context)
        if next(model.parameters()).is_meta:
            return adapted
        if self.prepared is None:
            raise KasaCordaError(f"method={self.config.name}: prepare must come before adapt")
        with torch.no_grad():
            for name, layer in adapted_layers(adapted, self.prepared.adapters).items():
                A, B = self.prepared.adapters[name]
                layer.lora_A["default"].weight.copy_(A)
                layer.lora_B["default"].weight.copy_(B)
        return adapted

    def report(self) -> dict[str, Any]:
        if self.prepared is None:
            return {}
        return {
            "notes": self.prepared.notes,
            "switches": {**asdict(switches(self.config)), "exponent": self.config.exponent},
            "calibration": self.calibration,
            "layers": self.prepared.diagnostics,
        }

    def save(self, model: Any, directory: Path, base: str) -> None:
        from ..corda.storage import save_with_residual

        assert self.prepared is not None
        if self.config.storage == "converted":
            self.save_as_lora(model, directory, base)
        else:
            save_with_residual(model, adapted_layers(model, self.prepared.adapters), directory, base)

    def save_as_lora(self, model: Any, directory: Path, base: str) -> None:
        from ..corda.storage import save_converted

        if self.prepared is None:
            raise KasaCordaError("the converted form needs the adapter's start, which only the training run knows")
        save_converted(model, self.prepared.adapters, directory, base)

    def load(self, model: nn.Module, directory: Path) -> nn.Module:
        from ..corda.storage import load_residual

        load_residual(model, directory)
        return super().load(model, directory)


def adapted_layers(model: Any, names: Any) -> dict[str, Any]:
    """Full layer name in the base model -> its LoRA layer."""
    base = model.base_model.model
    return {name: base.get_submodule(name) for name in names}


@METHODS.register("corda_kpa")
class CordaKpa(Corda):
    """Knowledge-preserved: trains the r components that calibration inputs use least."""

    facts = Facts("low rank", "arXiv 2406.05223", "A and B, which start as the smallest components of W C")
    mode = "kpa"


@METHODS.register("corda_ipa")
class CordaIpa(Corda):
    """Instruction-previewed: trains the r components that calibration inputs use most."""

    facts = Facts("low rank", "arXiv 2406.05223", "A and B, which start as the largest components of W C")
    mode = "ipa"
