"""EVA (arXiv 2410.07170): A starts along the strongest directions of a layer's inputs, which also decide its rank."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ..config.schema import option
from ..errors import KasaCordaError
from . import METHODS
from ._optimizers import LoraFamilyConfig
from .base import AdaptContext, Facts
from .lora import LoraMethod

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass
class EvaConfig(LoraFamilyConfig):
    """LoRA's options, how ranks are shared out and what is looked at."""

    rho: float = option(
        2.0,
        "a layer's rank is at most rho x rank, the sum of all ranks stays; 1 leaves every rank as it is",
        at_least=1,
    )
    centred: bool = option(True, "directions of the inputs less their mean, as in the authors' code and PEFT")
    activation_batches: int = option(32, "batches whose activations are looked at", at_least=1)
    activation_batch_size: int = option(4, "examples per batch", at_least=1)


@METHODS.register("eva")
class Eva(LoraMethod):
    """A = right singular vectors of the layer's inputs, B = 0, so that W stays; layers of rank 0 are left alone.

    The components that explain the largest share of their layer's input variance are kept, over all layers. One exact
    pass over a fixed number of batches, where the authors and PEFT iterate a randomised incremental PCA until it
    settles (tau).
    """

    facts = Facts(
        "low rank",
        "arXiv 2410.07170; code: ml-jku/EVA, huggingface/peft",
        "A and B, A starting along the inputs' strongest directions, ranks by layer",
        four_bit=True,
    )
    Config = EvaConfig
    needs_batches = True

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.components: dict[str, Tensor] | None = None
        """full layer name -> the start of A (rank, in); no row for layers of rank 0"""
        self.layers: list[dict[str, Any]] = []
        self.notes: list[str] = []

    def prepare(self, model: nn.Module, context: AdaptContext) -> None:
        import torch

        from ..calibration.hooks import resolve
        from ..starts.activations import directions, moments_of, ranks
        from ..starts.state import state_of

        assert context.batches is not None
        c = self.config
        batches = list(context.batches(c.activation_batches, c.activation_batch_size))
        layers = resolve(model, context.targets)
        state = state_of(context.folder, layers, batches, asdict(c))
        found: dict[str, tuple[Tensor, Tensor]] = {}
        for part in moments_of(model, list(layers), batches, finished=state.has):
            stored = state.load(part.name)
            if stored is None:
                known = {id(moments): moments for moments in part.covariances.values()}
                shared = {key: directions(m, round(c.rank * c.rho), centred=c.centred) for key, m in known.items()}
                pairs = {name: shared[id(moments)] for name, moments in part.covariances.items()}
                stored = (
                    {name: (pair.components.cpu().clone(), pair.ratios.cpu().clone()) for name, pair in pairs.items()},
                    [{"layer": name, "tokens": part.covariances[name].tokens} for name in pairs],
                )
                state.save(part.name, *stored)
            found |= stored[0]
        self.notes += [state.note] if state.note else []
        found = {name: found[name] for name in layers}
        counts = ranks({name: ratios.tolist() for name, (_, ratios) in found.items()}, c.rank * len(layers))
        self.components = {name: found[name][0][:count].contiguous() for name, count in counts.items() if count}
        self.layers = [
            {"layer": name, "rank": count, "explained": float(torch.sum(found[name][1][:count]))}
            for name, count in counts.items()
        ]

    def arguments(self, context: AdaptContext) -> dict[str, Any]:
        arguments, rank = super().arguments(context), self.config.rank
        if self.components is None:
            return arguments
        scale = self.config.alpha / rank  # the same for every layer, whatever its rank (PEFT: adjust_scaling_factors)
        uneven = {name: len(A) for name, A in self.components.items() if len(A) != rank}
        return arguments | {
            "target_modules": list(self.components),
            "rank_pattern": uneven,
            "alpha_pattern": {name: scale * count for name, count in uneven.items()},
        }

    def adapt(self, model: nn.Module, context: AdaptContext) -> nn.Module:
        import torch

        adapted: Any = super().adapt(model, context)
        if next(model.parameters()).is_meta:
            return adapted  # no activations: ranks before they are shared out
        if self.components is None:
            raise KasaCordaError(f"method={self.config.name}: prepare must come before adapt")
        with torch.no_grad():
            for name, A in self.components.items():
                adapted.base_model.model.get_submodule(name).lora_A["default"].weight.copy_(A)
        return adapted

    def report(self) -> dict[str, Any]:
        return {"layers": self.layers, "notes": self.notes}
