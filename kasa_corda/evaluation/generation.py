"""Generation: answers graded by their task, likelihoods of given continuations, and of the reference answers.

``answer_likelihood`` is exp(-mean negative log-likelihood per token) of the reference responses, given their prompts,
over all tokens of a split: the geometric mean of the tokens' probabilities, 1 / perplexity. Unlike the perplexity it
is a fraction, and higher is better. It needs no generation and tells small models apart that answer nothing right.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from . import EVALUATORS
from .base import Evaluation, Evaluator

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from ..progress import Progress
    from ..tasks import Example, Task
    from ._likelihood import Continuation

LIKELIHOOD = "answer_likelihood"
EXACT_MATCH = "exact_match"


@EVALUATORS.register("generation")
class GenerationEvaluator(Evaluator):
    kinds = ("generation",)

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
        texts = self._texts(model, tokenizer, task, examples, progress)
        graded: Evaluation = task.grade(examples, texts)
        for row, generated in zip(graded.rows, texts, strict=True):
            row |= {"text": generated[0]} | ({"texts": generated} if len(generated) > 1 else {})
        return graded

    def _texts(
        self, model: Any, tokenizer: Any, task: Any, examples: list[Example], progress: Progress
    ) -> list[list[str]]:
        """Generated texts in the order of ``examples``; batches of similar length, shared out over the processes."""
        from ._greedy import Stopping, greedy

        prompts = task.prompts(examples, tokenizer)
        decoding = task.decoding()
        stopping = Stopping(decoding.max_new_tokens, decoding.stop)
        order = sorted(range(len(prompts)), key=lambda i: -len(prompts[i]))
        size = self.config.batch_size
        batches = [order[start : start + size] for start in range(0, len(order), size)]
        with progress.phase("generate", len(prompts), "answer") as phase:
            texts = shared_out(
                batches,
                lambda batch, processes: greedy(
                    model,
                    tokenizer,
                    [prompts[i] for i in batch],
                    stopping,
                    lambda count: phase.advance(count * processes),
                ),
            )
        return [[text] for text in texts]

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
        nll, tokens = sum(n for n, _, _ in measured), sum(t for _, t, _ in measured)
        value = math.exp(-nll / tokens)
        return Evaluation(
            {LIKELIHOOD: value},
            [{"answer_nll": n / t, "answer_tokens": t} for n, t, _ in measured],
            {LIKELIHOOD: value * _ratio_error([n for n, _, _ in measured], [t for _, t, _ in measured])},
        )

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


def _ratio_error(sums: Sequence[float], counts: Sequence[int]) -> float:
    """Standard error over examples of sum(sums) / sum(counts) (linearised ratio)."""
    from .errors import of_mean

    mean, ratio = sum(counts) / len(counts), sum(sums) / sum(counts)
    return of_mean([(s - ratio * c) / mean for s, c in zip(sums, counts, strict=True)])


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
