"""Our evaluator and lm-evaluation-harness (an optional package) on the same task definitions and the same model."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
from conftest import compose
from small_language_model import byte_tokenizer, small_llama, write_gsm8k, write_open_qa
from synthetic import make_task

from kasa_corda.errors import ConfigError
from kasa_corda.evaluation import EVALUATORS
from kasa_corda.launch import prepare
from kasa_corda.progress import Progress

installed = pytest.mark.skipif(find_spec("lm_eval") is None, reason="lm-eval is not installed")


@installed
@pytest.mark.parametrize(("name", "few_shot"), [("gsm8k", 0), ("nq_open", 0), ("webqs", 0), ("webqs", 2)])
def test_both_generate_the_same_texts_and_give_the_same_scores(name, few_shot, tmp_path):
    task = make_task(name, max_new_tokens=12, few_shot=few_shot)
    data = task.load(write_open_qa(write_gsm8k(tmp_path)), "paper")
    task.fit_into(512)
    found = {}
    for evaluator in ("generation", "lm_eval"):
        chosen = EVALUATORS[evaluator]
        config = chosen.Config(name=evaluator, batch_size=5)
        found[evaluator] = chosen(config).evaluate(
            small_llama(), byte_tokenizer(), task, data.test["test"], Progress(show=False)
        )
    ours, theirs = found["generation"], found["lm_eval"]
    assert [row["text"] for row in ours.rows] == [row["text"] for row in theirs.rows]
    assert theirs.scores == pytest.approx(ours.scores, rel=1e-4) and set(theirs.scores) == set(task.metrics)
    assert theirs.errors == pytest.approx(ours.errors, rel=1e-4)


@installed
def test_tasks_with_an_evaluation_of_their_own_are_refused_in_time():
    with pytest.raises(ConfigError, match="evaluator=lm_eval can't run task=wikitext2"):
        prepare(compose("task=wikitext2", "model=smollm2_135m", "method=base", "evaluator=lm_eval"))


@pytest.mark.skipif(find_spec("lm_eval") is not None, reason="lm-eval is installed")
def test_without_the_package_the_request_is_refused_with_the_way_to_get_it():
    with pytest.raises(ConfigError, match="needs the package lm-eval: pip install"):
        prepare(compose("task=gsm8k", "model=smollm2_135m", "method=lora", "evaluator=lm_eval"))
