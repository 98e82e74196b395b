"""The public calls, as a notebook uses them."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

import kasa_corda
from kasa_corda.errors import ConfigError


@pytest.fixture
def classifier(folders):
    from transformers import AutoModelForSequenceClassification

    torch.manual_seed(0)
    return AutoModelForSequenceClassification.from_pretrained(folders("bert"), num_labels=2).eval()


@pytest.fixture
def batch():
    torch.manual_seed(0)
    ids = torch.randint(5, 20, (6, 12))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def test_importing_the_package_imports_no_torch():
    code = "import sys, kasa_corda; print('torch' in sys.modules, sorted(kasa_corda.__all__) == kasa_corda.__all__[:])"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.startswith("False")


def test_every_public_name_is_there():
    assert all(callable(getattr(kasa_corda, name)) for name in kasa_corda.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        kasa_corda.nothing  # noqa: B018


@pytest.mark.parametrize("method", ["corda_kpa", "corda_ipa"])
def test_corda_on_a_model_in_memory_starts_unchanged(classifier, batch, method):
    with torch.no_grad():
        before = classifier(**batch).logits
        adapted = kasa_corda.adapt(classifier, method, rank=4, calibration=[batch], target_modules=["query", "value"])
        torch.testing.assert_close(adapted.model(**batch).logits, before, atol=1e-5, rtol=1e-4)
    names = [name for name, p in adapted.model.named_parameters() if p.requires_grad and "lora_" in name]
    assert len(names) == 8


def test_kasa_on_a_model_in_memory_trains_with_its_own_loss(classifier, batch):
    model, method = kasa_corda.adapt(classifier, "kasa", rank=4, alpha=8)
    loss = method.auxiliary_loss(model)
    assert loss.item() > 0
    (model(**batch, labels=torch.zeros(6, dtype=torch.long)).loss + loss).backward()
    sigma = next(p for name, p in model.named_parameters() if "lora_diag" in name)
    assert sigma.grad.abs().sum() > 0


def test_evaluate_scores_a_model_in_memory(classifier, tiny_bert, tiny_glue):
    from kasa_corda.models.loading import load_tokenizer

    scores = kasa_corda.evaluate(
        classifier, load_tokenizer(tiny_bert), "glue/sst2", data_dir=str(tiny_glue), overrides=["task.max_length=32"]
    )
    assert 0 <= scores["accuracy"] <= 1


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("kassa", {}, "did you mean kasa"),
        ("kasa", {"ranks": 4}, "option of method kasa=ranks"),
        ("kasa", {"rank": 0}, "method.rank=0 must be at least 1"),
        ("kasa", {"rank": 999}, "keeps no component|larger than"),
        ("kasa", {"target_modules": ["querry"]}, "did you mean query"),
        ("corda_ipa", {}, "needs calibration"),
    ],
)
def test_wrong_requests_name_key_value_and_nearest_choice(classifier, method, options, message):
    with pytest.raises(ConfigError, match=message):
        kasa_corda.adapt(classifier, method, **options)
