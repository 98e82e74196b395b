"""Generation: answers graded by their task, likelihoods of given continuations, and of the reference answers.

``answer_likelihood`` is exp(-mean negative log-likelihood per token) of the reference responses, given their prompts,
over all tokens of a split: the geometric mean of the tokens' probabilities, 1 / perplexity. Unlike the perplexity it
is a fraction, and higher is better. It needs no generation and tells small models apart that answer nothing right.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Optional

from ..config.schema import EvaluatorConfig, TaskConfig, option
from ..errors import ConfigError
from . import EVALUATORS
from .base import Evaluation, Evaluator, WithinRun
from .errors import of_ratio
from .sandbox.choice import CHOICES

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from ..progress import Progress
    from ..tasks import Example, Task
    from ._batching import BatchSize
    from ._likelihood import Continuation

LIKELIHOOD = "answer_likelihood"
EXACT_MATCH = "exact_match"


@dataclass
class GenerationConfig(EvaluatorConfig):
    """Generation."""

    sandbox: str = option(
        "auto",
        "where generated code runs; auto is bubblewrap or, without it, unshare: never in this process, and never in"
        " rlimit, which is weaker, unless that is asked for by name",
        choices=CHOICES,
        later=True,
    )
    backend: str = option(
        "hf",
        "what generates: hf is transformers in this process, vllm an environment of its own (likelihoods stay with hf)",
        choices=("hf", "vllm"),
        later=True,
    )
    vllm_python: Optional[str] = option(
        None, "python of the environment that has vllm, such as /path/to/venv/bin/python", later=True
    )


@EVALUATORS.register("generation")
class GenerationEvaluator(Evaluator):
    Config = GenerationConfig
    kinds = ("generation",)

    def check(self, task: TaskConfig) -> None:
        super().check(task)
        beams = getattr(task, "num_beams", 1)
        if self.config.backend == "vllm" and beams > 1:
            raise ConfigError(
                f"task.num_beams={beams}: vLLM's beam search is not that of transformers; use evaluator.backend=hf"
            )

    def ready(self, task: TaskConfig) -> None:
        from .vllm_backend import probe

        if self.config.backend == "vllm":
            probe(self.config.vllm_python)
        from ..tasks import TASKS
        from ..tasks._causal import CausalTask

        owner = TASKS[task.family](task)
        assert isinstance(owner, CausalTask)
        for each in (owner, *owner.further.values()):
            assert isinstance(each, CausalTask)
            each.ready(self.config)

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
        from ..tasks._causal import CausalTask

        assert isinstance(task, CausalTask)
        task = task.owner(examples)
        outcome = Evaluation({}, [{"id": example.id, "reference": example.label} for example in examples])
        was_training = model.training
        model.eval()
        if whole := task.evaluated(model, tokenizer, examples, self.config.batch_size, progress):
            model.train(was_training)
            return whole
        if only is None or only in task.text_metrics:
            outcome.add(self._graded_texts(model, tokenizer, task, examples, progress))
        if task.choice_metrics and (only is None or only in task.choice_metrics):
            outcome.add(self._graded_continuations(model, tokenizer, task, examples, progress))
        if only in (None, LIKELIHOOD) and all(example.target for example in examples):
            outcome.add(self._likelihood(model, tokenizer, task, examples, progress))
        model.train(was_training)
        if examples[0].task is not None:  # paired statistics read every "score": only those of the run's own task
            for row in outcome.rows:
                row.pop("score", None)
        return outcome

    def _graded_texts(
        self, model: Any, tokenizer: Any, task: Any, examples: list[Example], progress: Progress
    ) -> Evaluation:
        texts, settings = self._texts(model, tokenizer, task, examples, progress)
        while later := task.next_turn(examples, texts):
            answers, _ = self._texts(model, tokenizer, task, later, progress)
            texts = [before + new for before, new in zip(texts, answers, strict=True)]
        task.equip(self.config, progress)
        graded: Evaluation = task.grade(examples, texts)
        for row, generated in zip(graded.rows, texts, strict=True):
            row |= {"text": generated[0]} | ({"texts": generated} if len(generated) > 1 else {})
        graded.settings |= settings | {"batch_size_used": self.size.rows}
        graded.notes += self.size.notes()
        return graded

    def _texts(
        self, model: Any, tokenizer: Any, task: Any, examples: list[Example], progress: Progress
    ) -> tuple[list[list[str]], dict[str, Any]]:
        """The generated texts of every example, and how they were made."""
        from ._texts import Writer

        prompts, decoding = task.prompts(examples, tokenizer), task.decoding()
        run = self.run or WithinRun()
        writer = Writer(
            model,
            tokenizer,
            self.size,
            self.config.backend,
            self.config.vllm_python,
            run.method,
            run.folder,
            run.journal,
        )
        texts = writer.texts(prompts, examples, decoding, progress)
        return texts, writer.settings(prompts, decoding)

    @cached_property
    def size(self) -> BatchSize:
        """The batch size, which lasts as long as this evaluator where memory made it smaller."""
        from ._batching import BatchSize

        return BatchSize(self.config.batch_size)

    def _graded_continuations(
        self, model: Any, tokenizer: Any, task: Any, examples: list[Example], progress: Progress
    ) -> Evaluation:
        from ._likelihood import Continuation

        options = [task.continuations(example) for example in examples]
        rows = task.continued(examples, options, tokenizer)
        measured = iter([Continuation(*found) for found in self._measured(model, tokenizer, rows, "compare", progress)])
        scored: list[list[Continuation]] = [[next(measured) for _ in texts] for texts in options]
        graded: Evaluation = task.grade_continuations(examples, scored)
        return graded

    def _likelihood(
        self, model: Any, tokenizer: Any, task: Any, examples: list[Example], progress: Progress
    ) -> Evaluation:
        rows = task.reference_rows(examples, tokenizer)
        measured = self._measured(model, tokenizer, rows, "score answers", progress)
        return answer_likelihood([nll for nll, _, _ in measured], [tokens for _, tokens, _ in measured])

    def _measured(
        self, model: Any, tokenizer: Any, rows: list[dict[str, Any]], name: str, progress: Progress
    ) -> list[tuple[float, int, bool]]:
        """(summed negative log-likelihood in nats, tokens, whether all are the most likely) of every row's labels."""
        import torch

        from ..batches import Collator
        from ._likelihood import bounded_batches, scored_labels

        collate = Collator(tokenizer)
        batches = bounded_batches([len(row["input_ids"]) for row in rows], self.config.batch_size)
        with torch.inference_mode(), progress.phase(name, len(batches), "batch") as phase:

            def work(batch: Sequence[int], processes: int) -> list[tuple[float, int, bool]]:
                sums, counts, greedy = scored_labels(model, collate([rows[i] for i in batch]))
                phase.advance(processes)
                return list(zip(sums.tolist(), counts.tolist(), greedy.tolist(), strict=True))

            return shared_out(batches, work)


def answer_likelihood(nlls: Sequence[float], counts: Sequence[int]) -> Evaluation:
    """From the summed negative log-likelihood and the token count of every reference answer."""
    value = math.exp(-sum(nlls) / sum(counts))
    rows = [{"answer_nll": nll / count, "answer_tokens": count} for nll, count in zip(nlls, counts, strict=True)]
    return Evaluation({LIKELIHOOD: value}, rows, {LIKELIHOOD: value * of_ratio(nlls, counts)})


def shared_out(batches: Sequence[Sequence[int]], work: Callable[[Sequence[int], int], Sequence[Any]]) -> list[Any]:
    """``work`` on every batch of indices, each process its n-th; all processes get all results, in index order.

    ``work`` is given a batch and the number of processes, and returns one result per index.
    """
    from accelerate import PartialState
    from accelerate.utils import gather_object

    state = PartialState()
    mine: list[tuple[int, Any]] = []
    for batch in batches[state.process_index :: state.num_processes]:
        mine += zip(batch, work(batch, state.num_processes), strict=True)
    return [result for _, result in sorted(gather_object(mine), key=lambda item: item[0])]
