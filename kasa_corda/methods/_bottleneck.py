"""What the bottleneck adapters share: their options, where in a block they go, and what else trains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..config.schema import MethodConfig, option
from ._own import OwnMethod, replace

if TYPE_CHECKING:
    from torch import nn

    from ._bottleneck_layers import Bottleneck

    Make = Callable[[], Bottleneck]

ACTIVATIONS = ("relu", "swish", "gelu", "tanh")
INITS = ("zero", "houlsby", "bert", "linear")


def activation(default: str) -> Any:
    return option(default, "non-linearity of the bottleneck", choices=ACTIVATIONS)


def width(default: int) -> Any:
    return option(default, "width b of the bottleneck", at_least=1)


@dataclass
class BottleneckConfig(MethodConfig):
    """Options of every bottleneck adapter: Up act(Down x), Down (b, d) and Up (d, b) with biases."""

    learning_rate: float = option(3e-4, "peak learning rate used where trainer.learning_rate is not given", above=0)
    bottleneck: int = width(16)
    activation: str = activation("relu")
    init: str = option(
        "zero",
        "zero: Up is zero (Down Kaiming-uniform), the forward pass starts unchanged; houlsby: normal of std 0.01 cut at"
        " two std; bert: normal of std 0.02; linear: torch's own for linear layers (microsoft/LoRA)",
        choices=INITS,
    )
    dropout: float = option(0.0, "dropout on what the adapter adds", at_least=0, below=1)
    train_norms: bool = option(False, "also train the LayerNorms of all blocks")


class BottleneckMethod(OwnMethod):
    """A frozen model with bottlenecks at its blocks; subclasses say where."""

    adapts_layers = False
    scaled_by = "bottleneck"
    LEARNING_RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)

    def blocks(self, model: nn.Module) -> list[str]:
        """Full names of the blocks; lets their LayerNorms train if the options say so. Call it before wrapping."""
        from ..models.blocks import block_names, family_of

        _, parts = family_of(model)
        names = block_names(model)
        for block in names if self.config.train_norms else []:
            for norm in parts.norms:
                model.get_submodule(f"{block}.{norm}").requires_grad_(True)
        return names

    def maker(self, model: nn.Module, block: str, widths: tuple[int, int] | None = None, **changes: Any) -> Make:
        """The call that makes one adapter for this block: from width in to width out (both the model's own if not
        given), on the block's device and in at least float32."""
        from ._bottleneck_layers import Bottleneck

        config: Any = model.config
        c, kind = self.config, changes.pop("kind", Bottleneck)
        settings = {"activation": c.activation, "init": c.init, "dropout": c.dropout, **changes}
        settings |= placement(model.get_submodule(block))
        return lambda: kind(widths or (config.hidden_size, config.hidden_size), c.bottleneck, **settings)


def placement(like: nn.Module) -> dict[str, Any]:
    """Device and dtype of new parameters beside a module: at least float32, whatever its weights are stored in."""
    import torch

    first = next(like.parameters())
    return {"device": first.device, "dtype": torch.float64 if first.dtype == torch.float64 else torch.float32}


def at_both_sublayers(model: nn.Module, block: str, make: Make) -> None:
    """Houlsby: one adapter on what the attention sub-layer adds to the residual stream, one on the feed-forward's;
    after dropout, before the residual add."""
    from ..models.blocks import family_of
    from ._bottleneck_layers import After

    _, parts = family_of(model)
    for place in (parts.attention_end, parts.ffn_end):
        wrap(model, f"{block}.{place}", After, make())


def after_ffn(model: nn.Module, block: str, make: Make) -> None:
    """Pfeiffer: one adapter that reads the normalised sum of feed-forward and residual stream; its result joins the
    sum before that is normalised again by the same LayerNorm. A pre-norm block has no LayerNorm there: the adapter
    reads the block's output."""
    from ..models.blocks import family_of
    from ._bottleneck_layers import After, AroundNorm

    _, parts = family_of(model)
    if parts.post_norm:
        wrap(model, f"{block}.{parts.norms[-1]}", AroundNorm, make())
    else:
        wrap(model, block, After, make())


def wrap(model: nn.Module, name: str, wrapper: Callable[..., nn.Module], *adapter: Any, **settings: Any) -> None:
    """Put ``wrapper(module, *adapter, **settings)`` in the place of the module of that name."""
    replace(model, name, wrapper(model.get_submodule(name), *adapter, **settings))
