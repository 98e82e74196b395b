"""Virtual tokens before the input, the model itself unchanged.

Prefix tuning (arXiv 2101.00190): keys and values of l tokens in every layer. Prompt tuning (2104.08691): l input
embeddings. P-tuning (2103.10385): l input embeddings that a small network makes.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

from ..config.schema import option
from ..errors import ConfigError, DataError
from . import METHODS
from ._peft import OwnHeadRate, PeftMethod, head_apart, keep_frozen
from .base import AdaptContext, Facts

if TYPE_CHECKING:
    from peft import PeftConfig
    from torch import nn


@dataclass
class VirtualConfig(OwnHeadRate):
    tokens: int = option(20, "virtual tokens l", at_least=1)


class PromptLearning(PeftMethod):
    """What the three share."""

    adapts_layers = False
    scaled_by = "tokens"

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.notes: list[str] = []

    @property
    def virtual_tokens(self) -> int:
        return int(self.config.tokens)

    @property
    def after_cls(self) -> bool:
        return getattr(self.config, "placement", "first") == "after_cls"

    @abstractmethod
    def tuner_config(self, shared: dict[str, Any]) -> PeftConfig:
        """The PEFT config with the arguments that all three share."""

    def peft_config(self, context: AdaptContext) -> PeftConfig:
        return self.tuner_config(
            {
                "task_type": context.task_type,
                "num_virtual_tokens": self.config.tokens,
                "modules_to_save": [*context.head, *context.frozen] or None,
            }
        )

    def adapt(self, model: nn.Module, context: AdaptContext) -> nn.Module:
        from ._virtual import with_virtual_tokens

        self.head = context.head
        model.requires_grad_(False)
        adapted = with_virtual_tokens(model, self.peft_config(context), self.after_cls)
        if adapted.place:
            self.notes.append(
                "the virtual tokens follow the first token, which the head reads; plain PEFT puts them before it and"
                " gives other answers with this adapter (the same with method.placement=first)"
            )
        keep_frozen(adapted, context.frozen)
        encoder = adapted.prompt_encoder["default"]
        trained = sum(p.numel() for p in encoder.parameters())
        config = adapted.active_peft_config
        width = config.num_layers * 2 * config.token_dim if self.config.name == "prefix_tuning" else config.token_dim
        if trained != self.config.tokens * width:
            self.notes.append(
                f"{trained:,} parameters of the virtual tokens train, {self.config.tokens * width:,} are stored: the"
                " network that makes them is not needed afterwards"
            )
        return adapted  # type: ignore[no-any-return]

    def parameter_groups(self, model: nn.Module, learning_rate: float) -> list[dict[str, Any]] | None:
        return head_apart(model, self.head, learning_rate, self.config.head_learning_rate)

    def report(self) -> dict[str, Any]:
        return {"notes": self.notes}

    def load(self, model: nn.Module, directory: Path) -> nn.Module:
        from peft import PeftConfig

        from ._virtual import with_virtual_tokens

        config: Any = PeftConfig.from_pretrained(str(directory))
        if not config.is_prompt_learning:
            raise DataError(f"the adapter in {directory} is of type {config.peft_type}, not {self.config.name}")
        config.inference_mode = True
        adapted = with_virtual_tokens(model, config, self.after_cls)
        adapted.load_adapter(str(directory), "default")
        return adapted  # type: ignore[no-any-return]

    def merge(self, model: Any) -> nn.Module:
        raise ConfigError(
            f"method={self.config.name} can't be merged: its virtual tokens are inputs, not weights; use the adapter"
            " with its base model"
        )


@dataclass
class PrefixTuningConfig(VirtualConfig):
    projection: bool = option(False, "make the prefix by a two-layer network, which is thrown away after training")
    projection_size: Optional[int] = option(None, "its width; null is that of the keys", at_least=1)


@METHODS.register("prefix_tuning")
class PrefixTuning(PromptLearning):
    facts = Facts(
        "prompt",
        "arXiv 2101.00190",
        "keys and values of l virtual tokens in every layer",
        merges=False,
        identity=False,
        refuses={"deberta-v2": "its attention takes no keys and values from outside, which is what a prefix is"},
        checkpointing=False,
    )
    Config = PrefixTuningConfig
    LEARNING_RATES = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)

    def tuner_config(self, shared: dict[str, Any]) -> PeftConfig:
        from peft import PrefixTuningConfig as Peft

        return Peft(**shared, prefix_projection=self.config.projection, encoder_hidden_size=self.config.projection_size)


@dataclass
class InputConfig(VirtualConfig):
    """Of the two whose virtual tokens are inputs."""

    placement: str = option(
        "after_cls",
        "where an encoder's virtual tokens stand: after_cls (its head reads the first token, as it learned to), first"
        " (PEFT; the head reads a virtual token); a decoder's are always first",
        choices=("after_cls", "first"),
    )


@dataclass
class PromptTuningConfig(InputConfig):
    init: str = option(
        "vocabulary",
        "start: vocabulary (embeddings of tokens drawn at random), normal (N(0, 1))",
        choices=("vocabulary", "normal"),
    )


@METHODS.register("prompt_tuning")
class PromptTuning(PromptLearning):
    facts = Facts("prompt", "arXiv 2104.08691", "embeddings of l virtual tokens", merges=False, identity=False)
    Config = PromptTuningConfig
    LEARNING_RATES = (3e-3, 1e-2, 3e-2, 1e-1, 3e-1)

    def tuner_config(self, shared: dict[str, Any]) -> PeftConfig:
        from peft import PromptTuningConfig as Peft

        return Peft(**shared, prompt_tuning_init="SAMPLE_VOCAB" if self.config.init == "vocabulary" else "RANDOM")


@dataclass
class PTuningConfig(InputConfig):
    encoder: str = option("mlp", "network that makes the embeddings", choices=("mlp", "lstm"))
    encoder_size: Optional[int] = option(None, "its width; null is the hidden size", at_least=1)


@METHODS.register("p_tuning")
class PTuning(PromptLearning):
    facts = Facts(
        "prompt", "arXiv 2103.10385", "l virtual tokens and the network that makes them", merges=False, identity=False
    )
    Config = PTuningConfig
    LEARNING_RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)

    def tuner_config(self, shared: dict[str, Any]) -> PeftConfig:
        from peft import PromptEncoderConfig as Peft

        kind = self.config.encoder.upper()
        return Peft(**shared, encoder_reparameterization_type=kind, encoder_hidden_size=self.config.encoder_size)
