"""KaSA (arXiv 2412.06071): drop the r smallest singular components, train (alpha / r) B diag(sigma) A.

``variant`` names one of the four KaSAs in the world; every switch can be set on its own (docs/kasa.md).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

from ..config.schema import option
from ..errors import ConfigError
from ..kasa.notes import truncation_notes
from ..kasa.presets import CONTROLS, PRESETS, components_cut, described, matched_rank, switches
from . import METHODS
from ._optimizers import LoraFamilyConfig, LoraOptimizers
from ._peft import check_rank, keep_frozen, lora_arguments
from .base import AdaptContext, Facts
from .lora import Lora

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..regulariser import Regulariser

AS_PRESET = "null is what the preset says"


@dataclass
class KasaConfig(LoraFamilyConfig):
    """Options of KaSA. The switches from ``keep`` on are null by default: the preset decides."""

    beta: float = option(1e-4, "weight of the L2 penalty on sigma (paper: L2)", at_least=0)
    gamma: float = option(1e-3, "weight of the orthogonality penalty on A and B (paper: L3)", at_least=0)
    variant: str = option(
        "paper",
        "preset: the paper's equations, the authors' code, their first code (the published logs), or PEFT's",
        choices=tuple(PRESETS),
    )
    control: str = option(
        "none",
        "ablation: truncation_only (adapter stays untrained), no_truncation, lora_matched (LoRA of the same parameter"
        " count), cut_largest (instead of smallest components), sigma_frozen",
        choices=CONTROLS,
    )
    truncation_rank: Optional[int] = option(None, "components cut from each layer; null is rank", at_least=1)
    keep: Optional[str] = option(
        None,
        f"components kept: min(out, in) - rank, or the first in - rank; {AS_PRESET}",
        choices=("min", "in_features"),
    )
    core: Optional[str] = option(
        None,
        f"matrix between B and A: diagonal, or dense (diagonal at start); {AS_PRESET}",
        choices=("diagonal", "dense"),
    )
    sigma_init: Optional[str] = option(None, f"initial sigma: N(0, 1) or ones; {AS_PRESET}", choices=("normal", "ones"))
    scaling: Optional[str] = option(
        None, f"scale of the update: lora alpha / r, rslora alpha / sqrt(r); {AS_PRESET}", choices=("lora", "rslora")
    )
    reduction: Optional[str] = option(None, f"penalties over layers: sum or mean; {AS_PRESET}", choices=("sum", "mean"))
    gram: Optional[str] = option(
        None, f"orthogonality on the r x r (small) or n x n (large) Gram; {AS_PRESET}", choices=("small", "large")
    )
    norm: Optional[str] = option(
        None,
        f"Frobenius norm of the orthogonality penalty, plain or squared; {AS_PRESET}",
        choices=("plain", "squared"),
    )
    correction: Optional[str] = option(
        None,
        "where the truncation is kept: fold (in the base's dtype), low_rank (float32, in the forward pass), auto"
        f" (low_rank where folding would lose it); {AS_PRESET}",
        choices=("auto", "fold", "low_rank"),
    )


@METHODS.register("kasa")
class Kasa(LoraOptimizers):
    facts = Facts(
        "low rank", "arXiv 2412.06071", "A, B and sigma of every truncated target layer", identity=False, four_bit=True
    )
    Config = KasaConfig
    rescalable = False
    LEARNING_RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)

    def __init__(self, config: KasaConfig) -> None:
        super().__init__(config)
        self.switches = switches(config)
        self.diagnostics: list[dict[str, Any]] = []
        """one row per adapted layer after ``adapt``; see docs/kasa.md"""
        self.notes: list[str] = []
        self._regulariser: Regulariser | None = None

    @property
    def cut_rank(self) -> int:
        return self.config.truncation_rank or self.config.rank

    @property
    def plain_lora(self) -> bool:
        return self.config.control == "lora_matched"

    def variant(self) -> str:
        optimizer = [] if self.config.optimizer == "adamw" else [self.config.optimizer]
        return ", ".join([described(self.config), *optimizer])

    def check(self, shapes: dict[str, tuple[int, int]]) -> None:
        check_rank(self.config.rank, shapes)
        self.check_optimizer()
        if self.config.control in ("no_truncation", "lora_matched"):
            return
        key = "rank" if self.config.truncation_rank is None else "truncation_rank"
        for name, (out_features, in_features) in shapes.items():
            full = min(out_features, in_features)
            if components_cut(out_features, in_features, self.cut_rank, self.switches.keep) >= full:
                limit = (full if self.switches.keep == "min" else in_features) - 1
                raise ConfigError(
                    f"method.{key}={self.cut_rank} keeps no component of layer {name} ({out_features} x {in_features});"
                    f" use method.{key}={limit} or less"
                )

    def adapt(self, model: nn.Module, context: AdaptContext) -> nn.Module:
        if self.plain_lora:
            return self._matched_lora(model, context).adapt(model, context)
        if self.config.control == "truncation_only" and not context.head:
            raise ConfigError(
                "method.control=truncation_only trains nothing but a task head, which a language model doesn't have"
            )
        from ..kasa.layers import adapter, attach, layers, truncate
        from ..spectral import SpectralCache

        adapted = attach(model, lora_arguments(self.config, context), self.switches)
        keep_frozen(adapted, context.frozen)
        if self.config.control != "no_truncation":
            largest = self.config.control == "cut_largest"
            self.diagnostics = truncate(adapted, self.cut_rank, self.switches, largest=largest, cache=SpectralCache())
            self.notes += truncation_notes(self.diagnostics)
        for _, layer in layers(adapted):
            A, core, B = adapter(layer)
            still = {"truncation_only": (A, core, B), "sigma_frozen": (core,)}.get(self.config.control, ())
            for parameter in still:
                parameter.requires_grad_(False)
        self.hold(adapted)
        return adapted

    def auxiliary_loss(self, model: nn.Module) -> Tensor | None:
        regulariser = self._regulariser_of(model)
        return None if regulariser is None else regulariser()

    def add_auxiliary_gradient(self, model: nn.Module, scale: float | Tensor) -> Tensor | None:
        regulariser = self._regulariser_of(model)
        return None if regulariser is None else regulariser.add_gradient(scale)

    def _regulariser_of(self, model: nn.Module) -> Regulariser | None:
        if self.config.control in ("lora_matched", "truncation_only"):
            return None
        if self._regulariser is None:
            from ..kasa.layers import adapter, layers
            from ..regulariser import Form, Regulariser

            chosen = self.switches
            form = Form(chosen.reduction == "mean", chosen.gram == "large", chosen.norm == "squared")
            parameters = [adapter(layer) for _, layer in layers(model)]
            self._regulariser = Regulariser(parameters, self.config.beta, self.config.gamma, form)
        return self._regulariser

    def report(self) -> dict[str, Any]:
        return {"switches": vars(self.switches), "notes": self.notes, "layers": self.diagnostics}

    def save(self, model: nn.Module, directory: Path, base: str) -> None:
        if self.plain_lora:
            return Lora(self.config).save(model, directory, base)
        from ..kasa.storage import save

        largest = self.config.control == "cut_largest"
        return save(model, directory, base, beta=self.config.beta, gamma=self.config.gamma, largest=largest)

    def save_as_lora(self, model: nn.Module, directory: Path, base: str) -> None:
        if self.plain_lora:
            return Lora(self.config).save(model, directory, base)
        from ..kasa.storage import save_lora

        return save_lora(model, directory, base)

    def load(self, model: nn.Module, directory: Path) -> nn.Module:
        if self.plain_lora:
            return Lora(self.config).load(model, directory)
        from ..kasa.storage import load

        return load(model, directory, self.config.rank, self.config.alpha, self.switches)

    def merge(self, model: Any) -> nn.Module:
        return model.merge_and_unload()

    def _matched_lora(self, model: nn.Module, context: AdaptContext) -> Lora:
        """LoRA of the nearest parameter count, with KaSA's scale s."""
        from ..kasa.layers import target_shapes

        own = self.config.rank
        rank, count, wanted = matched_rank(target_shapes(model, context.targets), own, self.switches.core)
        scale = self.config.alpha / (own if self.switches.scaling == "lora" else own**0.5)
        self.notes.append(
            f"control lora_matched: LoRA of rank {rank} trains {count:,} adapter parameters, KaSA of rank {own}"
            f" {wanted:,} ({100 * (count - wanted) / wanted:+.3f} %)"
        )
        return Lora(replace(self.config, rank=rank, alpha=scale * rank))
