"""LoRA-GA (arXiv 2407.05000): the adapter starts along the singular directions of the first steps' gradient."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ..config.schema import option
from ..errors import ConfigError, KasaCordaError
from . import METHODS
from ._converted import ConvertedLora
from ._optimizers import LoraFamilyConfig
from .base import AdaptContext, Facts

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..starts.factors import Adapter


@dataclass
class LoraGaConfig(LoraFamilyConfig):
    """LoRA's options, whose gradient it is and how it is scaled."""

    variant: str = option(
        "authors",
        "authors: A and B orthogonal, both of the size out^(1/4) / sqrt(gamma); peft: B also times the gradient's"
        " singular values, A unscaled, so that the size of the loss matters",
        choices=("authors", "peft"),
    )
    rslora: bool = option(True, "scale alpha / sqrt(r) instead of alpha / r")
    gamma: float = option(16.0, "the larger, the smaller A and B start", above=0)
    gradient_batches: int = option(8, "batches whose gradients are averaged", at_least=1)
    gradient_batch_size: int = option(1, "examples per batch", at_least=1)


@METHODS.register("lora_ga")
class LoraGa(ConvertedLora):
    """A from V_(1..r), B from U_(r+1..2r) of the gradient U S V^T; W' = W - s B A.

    The gradient's SVD is exact (spectral kernels), where both the authors and PEFT take a randomised one.
    """

    facts = Facts(
        "low rank",
        "arXiv 2407.05000; code: Outsider565/LoRA-GA, huggingface/peft",
        "A and B, which start along the gradient's singular vectors",
    )
    Config = LoraGaConfig
    LEARNING_RATES = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3)
    needs_batches = True

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.prepared: dict[str, Adapter] | None = None

    def check(self, shapes: dict[str, tuple[int, int]]) -> None:
        super().check(shapes)
        name, shape = min(shapes.items(), key=lambda item: min(item[1]))
        if 2 * self.config.rank > min(shape):
            raise ConfigError(
                f"method.rank={self.config.rank}: LoRA-GA starts from 2 x rank singular directions, and layer {name}"
                f" ({shape[0]} x {shape[1]}) has {min(shape)}; use method.rank={min(shape) // 2} or less"
            )

    def arguments(self, context: AdaptContext) -> dict[str, Any]:
        return super().arguments(context) | {"use_rslora": self.config.rslora}

    def prepare(self, model: nn.Module, context: AdaptContext) -> None:
        from torch.nn import Linear

        from ..calibration.hooks import resolve
        from ..starts.factors import from_gradient
        from ..starts.gradients import mean_gradients, parts
        from ..starts.state import state_of

        assert context.batches is not None
        c = self.config
        batches = list(context.batches(c.gradient_batches, c.gradient_batch_size))
        layers = resolve(model.to(batches[0]["input_ids"].device), context.targets)
        for name, layer in layers.items():
            self.check_weight(name, layer)
        state = state_of(context.folder, layers, batches, {**asdict(c), "seed": context.seed})
        self.prepared = {}
        for index, names in enumerate(parts(layers)):
            stored = state.load(str(index))
            if stored is None:
                gradients = mean_gradients(model, {name: layers[name] for name in names}, batches, context.seed)
                found = {}
                for name in names:
                    G = gradients.pop(name)
                    G = G if isinstance(layers[name], Linear) else G.T  # Conv1D stores (in, out)
                    A, B = from_gradient(G, c.rank, c.gamma, values=c.variant == "peft", name=name)
                    found[name] = (A.cpu(), B.cpu().contiguous())
                stored = found, [{"layer": name} for name in names]
                state.save(str(index), *stored)
            self.prepared |= stored[0]
        self.notes += [state.note] if state.note else []

    def start(self, weights: Mapping[str, Tensor], scale: float, context: AdaptContext) -> dict[str, Adapter]:
        if self.prepared is None:
            raise KasaCordaError(f"method={self.config.name}: prepare must come before adapt")
        return {name: self.prepared[name] for name in weights}
