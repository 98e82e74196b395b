"""``evaluator=lm_eval``: the same prompts, stops and graders, run by lm-evaluation-harness (an optional package)."""

from __future__ import annotations

import logging
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError, DataError
from . import EVALUATORS
from .base import Evaluation
from .generation import LIKELIHOOD, GenerationEvaluator, answer_likelihood

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from ..progress import Progress
    from ..tasks import Example, Task


@EVALUATORS.register("lm_eval")
class HarnessEvaluator(GenerationEvaluator):
    """Requests, batching, generation and likelihoods are the harness'; prompts and grading are the task's."""

    def check(self, task: Any) -> None:
        super().check(task)
        if find_spec("lm_eval") is None:
            raise ConfigError("evaluator=lm_eval needs the package lm-eval: pip install 'kasa-corda[lm-eval]'")
        if getattr(task, "samples", 1) > 1:
            raise ConfigError(f"evaluator=lm_eval gives one answer per question, not task.samples={task.samples}")
        from ..tasks import TASKS
        from ..tasks._causal import CausalTask

        family = TASKS[task.family]
        for hook in ("next_turn", "evaluated"):
            if getattr(family, hook) is not getattr(CausalTask, hook):
                raise ConfigError(f"evaluator=lm_eval can't run task={task.name}; use evaluator=generation")

    def evaluate(
        self,
        model: nn.Module,
        tokenizer: PreTrainedTokenizerBase,
        task: Task,
        examples: list[Example],
        progress: Progress,
        *,
        only: str | None = None,
    ) -> Evaluation:
        from lm_eval.evaluator import evaluate
        from lm_eval.models.huggingface import HFLM

        from ..tasks._causal import CausalTask
        from ._harness_task import BridgedTask, Requests

        assert isinstance(task, CausalTask)
        task = task.owner(examples)
        self._refuse(model, task)
        generates = only is None or only in task.text_metrics
        chooses = bool(task.choice_metrics) and (only is None or only in task.choice_metrics)
        refers = only in (None, LIKELIHOOD) and all(example.target for example in examples)
        options = [task.continuations(example) if chooses else [] for example in examples]
        references = [[str(example.target)] if refers else [] for example in examples]
        prompts = task.test_prompts(examples, tokenizer)
        requests = [
            Requests(prompt, generates, [*texts, *reference])
            for prompt, texts, reference in zip(prompts, options, references, strict=True)
        ]
        outcome = Evaluation({}, [{"id": example.id, "reference": example.label} for example in examples])

        def grade(found: list[tuple[str | None, list[tuple[float, bool]]]]) -> float:
            if generates:
                task.equip(self.config, progress)
                outcome.add(graded_texts(task, examples, [str(text) for text, _ in found]))
            if chooses:
                rows = task.continued(examples, options, tokenizer)
                outcome.add(graded_options(task, examples, options, [scores for _, scores in found], rows))
            if refers:
                counts = [sum(label >= 0 for label in r["labels"]) for r in task.reference_rows(examples, tokenizer)]
                outcome.add(answer_likelihood([-scores[-1][0] for _, scores in found], counts))
            return next(iter(outcome.scores.values()))

        logging.getLogger("lm_eval").setLevel(logging.ERROR)
        was_training = model.training
        bridged = BridgedTask(task.config.name, requests, generation_settings(task), grade)
        with progress.phase("lm-evaluation-harness", 1, "task") as phase:
            wrapped = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=self.config.batch_size)
            evaluate(wrapped, {task.config.name: bridged}, bootstrap_iters=0)
            phase.advance()
        model.train(was_training)
        return outcome

    def _refuse(self, model: Any, task: Any) -> None:
        if getattr(model, "edits_prompts", False) or hasattr(model, "virtual_embeddings"):
            raise DataError(
                "evaluator=lm_eval can't run a model whose prompts an adapter changes; use evaluator=generation"
            )


def generation_settings(task: Any) -> dict[str, Any]:
    """The task's decoding in the harness' words."""
    decoding = task.decoding()
    settings = {"until": list(decoding.stop), "max_gen_toks": decoding.max_new_tokens, "do_sample": False}
    if decoding.temperature is not None:
        settings |= {"do_sample": True, "temperature": decoding.temperature, "top_p": decoding.top_p}
    if decoding.num_beams > 1:
        settings |= {"num_beams": decoding.num_beams, "length_penalty": decoding.length_penalty}
        settings |= {"no_repeat_ngram_size": decoding.no_repeat_ngram_size}
    return settings


def graded_texts(task: Any, examples: list[Example], texts: list[str]) -> Evaluation:
    graded: Evaluation = task.grade(examples, [[text] for text in texts])
    for row, text in zip(graded.rows, texts, strict=True):
        row["text"] = text
    return graded


def graded_options(
    task: Any,
    examples: list[Example],
    options: list[list[str]],
    scores: list[list[tuple[float, bool]]],
    rows: list[dict[str, Any]],
) -> Evaluation:
    """``scores`` of each example begin with those of its options; ``rows`` say how many tokens each option has."""
    from ._likelihood import Continuation

    tokens = iter(sum(label >= 0 for label in row["labels"]) for row in rows)
    scored = [
        [Continuation(-logarithm, next(tokens), greedy) for (logarithm, greedy), _ in zip(found, texts, strict=False)]
        for found, texts in zip(scores, options, strict=True)
    ]
    graded: Evaluation = task.grade_continuations(examples, scored)
    return graded
