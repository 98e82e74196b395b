"""Modules with random weights that stay frozen travel with the adapter."""

from __future__ import annotations

import torch
from small_models import small

from kasa_corda.methods.base import AdaptContext
from kasa_corda.methods.lora import Lora
from kasa_corda.models.loading import load_model


def test_an_adapter_brings_debertas_frozen_pooler_along(folders, tmp_path):
    from peft import PeftModel

    config = {**small("deberta-v2"), "path": str(folders("deberta-v2")), "pooler": "frozen"}
    torch.manual_seed(0)
    loaded = load_model(config, 2, "classification")
    frozen = [name for name in loaded.fresh if name not in loaded.head]
    assert frozen == ["pooler"]
    method = Lora(Lora.Config(name="lora", rank=2))
    context = AdaptContext(["query_proj", "value_proj"], loaded.head, "SEQ_CLS", 0, 1, frozen=frozen)
    model = method.adapt(loaded.model, context).eval()
    assert not any(p.requires_grad for name, p in model.named_parameters() if "pooler" in name)
    method.save(model, tmp_path, "base")

    torch.manual_seed(1)
    other = load_model(config, 2, "classification").model
    inputs = {"input_ids": torch.tensor([[2, 7, 8, 3]]), "attention_mask": torch.ones(1, 4, dtype=torch.long)}
    with torch.no_grad():
        assert not torch.allclose(other.eval()(**inputs).logits, model(**inputs).logits)
        reloaded = PeftModel.from_pretrained(other, tmp_path).eval()
        torch.testing.assert_close(reloaded(**inputs).logits, model(**inputs).logits)
