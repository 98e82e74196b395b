"""What it costs to discard the r smallest components of every layer, without any training (CorDA, Figure 2, Table 6).

The components are those of W (plain), of W with its inputs scaled by their mean size (asvd), or of W C with the inputs'
covariance C (corda). Each way undoes its scaling, so what is left is W - U_r U_r^T W with its own left directions U_r.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ..config.schema import MethodConfig, option
from ..corda.presets import PRESETS
from ..errors import ConfigError, KasaCordaError
from . import METHODS
from .base import AdaptContext, Facts
from .untrained import NOTHING, Untrained

if TYPE_CHECKING:
    from torch import nn

    from ..calibration import Calibration

PLAIN = "plain"


@dataclass
class DiscardedConfig(MethodConfig):
    """Which components go."""

    decomposition: str = option(
        "corda",
        "plain: singular components of W; asvd: of W with inputs scaled by their mean size; corda: of W C",
        choices=(PLAIN, "asvd", "corda"),
    )
    discard: int = option(16, "components discarded from every target layer, the smallest; 0 is the model as it is")
    variant: str = option(
        "paper", "decomposition=corda: whose covariance, as method.variant of CorDA", choices=tuple(PRESETS)
    )


@METHODS.register("discarded")
class Discarded(Untrained):
    Config: ClassVar[type[MethodConfig]] = DiscardedConfig
    facts = Facts("none", "arXiv 2406.05223, Figure 2; ASVD: arXiv 2312.05821", NOTHING, identity=False)
    adapts_layers = True
    calibrated = True

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        if config.decomposition == PLAIN:
            self.calibrated = False  # type: ignore[misc]
        self.notes: list[str] = []

    def variant(self) -> str:
        shown = "" if self.config.decomposition != "corda" or self.config.variant == "paper" else self.config.variant
        return " ".join(filter(None, (self.config.decomposition, shown, f"-{self.config.discard}")))

    def check(self, shapes: dict[str, tuple[int, int]]) -> None:
        limit = min((min(shape) for shape in shapes.values()), default=0)
        if not 0 <= self.config.discard < limit:
            raise ConfigError(
                f"method.discard={self.config.discard} must be at least 0 and below the smallest side of a target"
                f" layer, {limit}"
            )

    def prepare(self, model: nn.Module, context: AdaptContext) -> None:
        if not self.config.discard:
            return
        if self.config.decomposition == "corda":
            assert context.calibration is not None
            self._cut_by_covariance(model, context.targets, context.calibration)
            return
        from ..spectrum.discard import cut_smallest

        self.notes = cut_smallest(model, context.targets, self.config.discard, context.calibration)

    def report(self) -> dict[str, Any]:
        return {"notes": self.notes}

    def _cut_by_covariance(self, model: nn.Module, targets: list[str], calibration: Calibration) -> None:
        """CorDA's own preparation leaves the residual W - B A in the model: exactly what discarding means."""
        from ..corda.decomposition import Recipe
        from ..corda.preparation import prepare

        recipe = Recipe("kpa", self.config.discard, 1.0, PRESETS[self.config.variant])
        try:
            self.notes = prepare(model, targets, calibration, recipe).notes
        except KasaCordaError as error:
            raise KasaCordaError(f"method=discarded: {error}") from None
