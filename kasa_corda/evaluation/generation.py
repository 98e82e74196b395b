"""Generation: greedy answers scored by exact match, and the likelihood of the reference answers.

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

LIKELIHOOD = "answer_likelihood"
EXACT_MATCH = "exact_match"
METRICS = (EXACT_MATCH, LIKELIHOOD)


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
        scores: dict[str, float] = {}
        rows: list[dict[str, Any]] = [{"id": example.id, "reference": example.label} for example in examples]
        was_training = model.training
        model.eval()
        if only in (None, EXACT_MATCH):
            texts = self._texts(model, tokenizer, task, examples, progress)
            predictions = [task.extract(text) for text in texts]
            scores |= task.score(predictions, [example.label for example in examples])
            for row, text, prediction in zip(rows, texts, predictions, strict=True):
                right = float(task.matches(prediction, row["reference"]))
                # paired statistics read every "score": only those of the run's own task
                row |= {"prediction": prediction, "text": text, EXACT_MATCH: right}
                row |= {"score": right} if examples[0].task is None else {}
        if only in (None, LIKELIHOOD):
            measured = self._nll(model, tokenizer, task, examples, progress)
            scores[LIKELIHOOD] = math.exp(-sum(nll for nll, _ in measured) / sum(tokens for _, tokens in measured))
            for row, (nll, tokens) in zip(rows, measured, strict=True):
                row |= {"answer_nll": nll / tokens, "answer_tokens": tokens}
        model.train(was_training)
        return Evaluation(scores, rows)

    def _texts(self, model: Any, tokenizer: Any, task: Any, examples: list[Example], progress: Progress) -> list[str]:
        """Generated texts in the order of ``examples``; batches of similar length, shared out over the processes."""
        from ._greedy import Stopping, greedy

        prompts = task.prompts(examples, tokenizer)
        stopping = Stopping(task.config.max_new_tokens, list(task.config.stop))
        order = sorted(range(len(prompts)), key=lambda i: -len(prompts[i]))
        size = self.config.batch_size
        batches = [order[start : start + size] for start in range(0, len(order), size)]
        with progress.phase("generate", len(prompts), "answer") as phase:
            return shared_out(
                batches,
                lambda batch, processes: greedy(
                    model,
                    tokenizer,
                    [prompts[i] for i in batch],
                    stopping,
                    lambda count: phase.advance(count * processes),
                ),
            )

    def _nll(
        self, model: Any, tokenizer: Any, task: Any, examples: list[Example], progress: Progress
    ) -> list[tuple[float, int]]:
        """(summed negative log-likelihood in nats, tokens) of every example's reference response."""
        import torch

        from ..batches import Collator
        from ._likelihood import bounded_batches, summed_nll

        rows = task.reference_rows(examples, tokenizer)
        collate = Collator(tokenizer)
        batches = bounded_batches([len(row["input_ids"]) for row in rows], self.config.batch_size)
        with torch.inference_mode(), progress.phase("score answers", len(batches), "batch") as phase:

            def work(batch: Sequence[int], processes: int) -> list[tuple[float, int]]:
                sums, counts = summed_nll(model, collate([rows[i] for i in batch]))
                phase.advance(processes)
                return list(zip(sums.tolist(), counts.tolist(), strict=True))

            return shared_out(batches, work)


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
