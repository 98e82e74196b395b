"""Classification and regression: one forward pass per batch, predictions gathered over all processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import EVALUATORS
from .base import Evaluation, Evaluator
from .metrics import standard_error

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from ..progress import Progress
    from ..tasks import Example, Task


@EVALUATORS.register("classification")
class ClassificationEvaluator(Evaluator):
    kinds = ("classification", "regression")

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
        encoded = task.encode(examples, tokenizer)
        predictions = self._predict(model, tokenizer, task, encoded, progress)
        references = [example.label for example in examples]
        rows = [
            {"id": example.id, "prediction": p, "reference": y, "score": self._score(task, p, y)}
            for example, p, y in zip(examples, predictions, references, strict=True)
        ]
        scores = task.score(predictions, references)
        errors = {} if only else {name: standard_error(name, predictions, references) for name in scores}
        dtype = str(next(model.parameters()).dtype).removeprefix("torch.")
        settings = {"backend": "hf", "batch_size": self.config.batch_size, "dtype": dtype}
        return Evaluation(scores, rows, errors, settings=settings)

    def _predict(
        self,
        model: nn.Module,
        tokenizer: PreTrainedTokenizerBase,
        task: Task,
        encoded: list[dict[str, Any]],
        progress: Progress,
    ) -> list[Any]:
        """Predictions in the order of ``encoded``; batches are sorted by length, processes take every n-th batch."""
        import torch
        from accelerate import PartialState
        from accelerate.utils import gather_object

        from ..batches import Collator

        state = PartialState()
        collate = Collator(tokenizer)
        order = sorted(range(len(encoded)), key=lambda i: -len(encoded[i]["input_ids"]))
        size = self.config.batch_size
        batches = [order[start : start + size] for start in range(0, len(order), size)]
        mine: list[tuple[int, Any]] = []
        was_training = model.training
        model.eval()
        with torch.inference_mode(), progress.phase("evaluate", len(batches), "batch") as phase:
            for batch in batches[state.process_index :: state.num_processes]:
                logits = collate.logits(model, [encoded[i] for i in batch])
                mine += zip(batch, task.predict(logits), strict=True)
                phase.advance(state.num_processes)
        model.train(was_training)
        return [prediction for _, prediction in sorted(gather_object(mine), key=lambda item: item[0])]

    def _score(self, task: Task, prediction: Any, reference: Any) -> float:
        """Per example: 1 or 0 for a class, minus the squared error for a number."""
        if task.config.kind == "regression":
            return -float((prediction - reference) ** 2)
        return float(prediction == reference)
