"""A finished run back in memory: ``load_run(path)``."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .config import RunConfig
from .config.validate import check_limits, typed
from .errors import ConfigError, DataError
from .store import RunDirectory

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from .methods import Method
    from .tasks import Example, Task


@dataclass
class TrainedRun:
    """The trained model (best epoch, evaluation mode) with everything needed to use it."""

    config: RunConfig
    result: dict[str, Any]
    model: nn.Module
    tokenizer: PreTrainedTokenizerBase
    task: Task
    method: Method

    def predict(self, texts: list[str], batch_size: int = 64) -> list[dict[str, Any]]:
        """Per text: label (class name or number) and, for classes, the probability of each.

        A language model answers each text, a question: the answer that counts, and the whole generated text.
        """
        import torch

        from .batches import Collator
        from .tasks import Example

        examples = [Example(str(i), *split_pair(text, self.task.config)) for i, text in enumerate(texts)]
        if self.task.config.kind == "generation":
            return self._generate(examples, batch_size)
        encoded = self.task.encode(examples, self.tokenizer)
        collate = Collator(self.tokenizer)
        answers = []
        with torch.inference_mode():
            for start in range(0, len(encoded), batch_size):
                logits = collate.logits(self.model, encoded[start : start + batch_size])
                answers += [self._answer(p, row) for p, row in zip(self.task.predict(logits), logits, strict=True)]
        return answers

    def _generate(self, examples: list[Example], batch_size: int) -> list[dict[str, Any]]:
        from .evaluation._batching import BatchSize, Request
        from .evaluation._generate import generate
        from .tasks._causal import CausalTask

        assert isinstance(self.task, CausalTask)
        prompts = self.task.prompts(examples, self.tokenizer)
        requests = [Request(example.id, ids) for example, ids in zip(examples, prompts, strict=True)]
        generated = generate(self.model, self.tokenizer, requests, self.task.decoding(), BatchSize(batch_size))
        return [{"answer": self.task.extract(text), "generated": text} for text in generated]

    def _answer(self, prediction: Any, logits: Any) -> dict[str, Any]:
        if self.task.config.kind == "regression":
            return {"label": round(float(prediction), 4)}
        names = list(getattr(self.task.config, "labels", [])) or [str(i) for i in range(logits.numel())]
        chances = logits.softmax(-1).tolist()
        return {
            "label": names[prediction],
            "probability": dict(zip(names, (round(c, 4) for c in chances), strict=True)),
        }


def split_pair(text: str, task: Any) -> tuple[str, str | None]:
    """A text for a single-sentence task; two texts separated by a tab for a pair task."""
    columns = getattr(task, "columns", ["text"])
    if len(columns) == 1:
        return text, None
    first, separator, second = text.partition("\t")
    if not separator:
        raise DataError(f"task {task.name} compares two texts; separate them with a tab: {text!r} has none")
    return first, second


def load_run(path: str | Path) -> TrainedRun:
    """Load the adapter of a finished run onto its base model."""
    import torch

    from .data import data_folder
    from .methods import METHODS
    from .methods._stored import reading_adapter
    from .models.loading import load_model
    from .seeds import seed_everything
    from .tasks import TASKS

    directory = RunDirectory(Path(path))
    plain, result = directory.config(), directory.result()
    if plain is None:
        raise DataError(
            f"{path} is not a run directory (no config.yaml); give a path like runs/TASK/MODEL/METHOD/RUN_ID"
        )
    if result is None or not (directory.path / "adapter").is_dir():
        raise DataError(f"{path} has no trained adapter yet (state: {directory.state()}); run its command again")
    try:
        config = typed(plain)
        check_limits("", config)
        task = TASKS[config.task.family](config.task)
        task.check()
    except (ConfigError, TypeError) as error:  # TypeError: a limit can't be compared with what stands there
        raise DataError(f"{directory.path / 'config.yaml'}: {' '.join(str(error).split())[:1000]}") from None
    seed_everything(config.seed)
    loaded = load_model(asdict(config.model), task.num_labels, config.task.kind)
    method = METHODS[config.method.name](config.method)
    task.fit_into(config.model.max_positions - method.virtual_tokens)
    if getattr(config.task, "few_shot", 0):
        task.load(data_folder(config), config.selection)
    with reading_adapter(directory.path / "adapter"):
        model = method.load(loaded.model, directory.path / "adapter").eval()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return TrainedRun(config, result, model.to(device), loaded.tokenizer, task, method)
