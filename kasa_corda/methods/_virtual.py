"""PEFT models with virtual tokens whose outputs line up with the real ones.

PEFT returns logits for the virtual tokens of a prompt too, drops position ids, pools a padded row of a decoder at its
padding, and starts anew at every step of a generation with a cache. Here a model is called as if it had no virtual
tokens, so that training, evaluation and generation need to know nothing of them. What is stored is PEFT's.
"""

from __future__ import annotations

from typing import Any

import torch
from peft import PeftConfig, PeftModelForCausalLM, PeftModelForSequenceClassification, PeftType
from torch import Tensor

from ..batches import IGNORED
from ..errors import ConfigError
from ..models.families import ARCHITECTURES
from ..models.key_values import NAME, NAMES, cache_in


class VirtualTokens:
    """The forward pass of both kinds of model."""

    def forward(
        self: Any,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        position_ids: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        **options: Any,
    ) -> Any:
        """``input_ids`` (batch, tokens) and what goes with them, as for the model without virtual tokens.

        The cache that an earlier call returned has its virtual tokens in it.
        """
        config = self.active_peft_config
        batch, count = len(input_ids), config.num_virtual_tokens
        cache = cache_in(options)
        options = {name: value for name, value in options.items() if name not in NAMES}
        begins = cache is None or cache.get_seq_length() == 0
        prefix = config.peft_type == PeftType.PREFIX_TUNING
        inserted = count if begins and not prefix else 0
        prompts = self.get_prompt(batch) if begins else None
        if begins and prefix:
            cache, prompts = prompts, None
        if attention_mask is not None:
            attention_mask = self.with_inserted(attention_mask, attention_mask.new_ones(batch, count))
        if position_ids is not None:
            first = torch.arange(inserted, device=position_ids.device).expand(batch, -1)
            position_ids = torch.cat([first, position_ids + count], 1)
        if inserted:
            real = 1 if self.base_model.config.pad_token_id == 0 else 0
            input_ids = self.with_inserted(input_ids, input_ids.new_full((batch, count), real))
            if token_type_ids is not None:
                token_type_ids = self.with_inserted(token_type_ids, token_type_ids.new_zeros(batch, count))
            if labels is not None and labels.ndim == 2:
                # as without virtual tokens: nothing predicts the first token
                labels = torch.cat([labels.new_full((batch, count + 1), IGNORED), labels[:, 1:]], 1)
        optional = {
            "labels": labels,
            "position_ids": position_ids,
            "token_type_ids": token_type_ids,
            NAME: cache,
        }
        options |= {name: value for name, value in optional.items() if value is not None}
        self.virtual_embeddings = prompts
        try:
            outputs = self.base_model(input_ids=input_ids, attention_mask=attention_mask, **options)
        finally:
            self.virtual_embeddings = None
        if inserted and outputs.logits.ndim == 3 and not options.get("logits_to_keep"):
            outputs.logits = outputs.logits[:, count:]
        return outputs

    def embed(self: Any, module: Any, arguments: Any, embeddings: Tensor) -> Tensor | None:
        """Hook of the input embeddings: the virtual tokens in the place of those that stand for them."""
        virtual = self.virtual_embeddings
        if virtual is None:
            return None
        real = torch.cat([embeddings[:, : self.place], embeddings[:, self.place + virtual.shape[1] :]], 1)
        return self.with_inserted(real, virtual.to(embeddings.dtype))  # type: ignore[no-any-return]

    def with_inserted(self: Any, real: Tensor, virtual: Tensor) -> Tensor:
        """What belongs to the virtual tokens at their place among what belongs to the real ones, along dimension 1."""
        return torch.cat([real[:, : self.place], virtual, real[:, self.place :]], 1)

    def gradient_checkpointing_enable(self: Any, *arguments: Any, **options: Any) -> None:
        if self.active_peft_config.peft_type == PeftType.PREFIX_TUNING:
            raise ConfigError(
                "trainer.gradient_checkpointing=true leaves the prefix out: transformers drops past keys and values"
                " where it recomputes; turn it off"
            )
        self.base_model.gradient_checkpointing_enable(*arguments, **options)


class VirtualClassifier(VirtualTokens, PeftModelForSequenceClassification):  # type: ignore[misc]
    pass


class VirtualLanguageModel(VirtualTokens, PeftModelForCausalLM):  # type: ignore[misc]
    pass


def is_encoder(model: Any) -> bool:
    family = ARCHITECTURES.get(model.config.model_type)
    return family is not None and family.kind == "encoder"


def with_virtual_tokens(model: Any, config: PeftConfig, after_cls: bool = False) -> Any:
    """The PEFT model of a prompt-learning config; ``after_cls``: an encoder's virtual tokens follow its first one."""
    kind = VirtualClassifier if config.task_type == "SEQ_CLS" else VirtualLanguageModel
    adapted: Any = kind(model, config)
    adapted.place = int(after_cls and is_encoder(model))
    adapted.virtual_embeddings = None
    model.get_input_embeddings().register_forward_hook(adapted.embed)
    return adapted
