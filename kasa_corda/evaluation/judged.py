"""evaluator=judged: as generation, and a language model judges the answers (``judge/``).

Without ``evaluator.judge.base_url`` nothing is sent: the answers are written and the result says that they are not
judged. The same where the judge fails or would cost too much, so that no trained model is lost over it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config.schema import TaskConfig
from ..errors import ConfigError, KasaCordaError
from . import EVALUATORS
from .base import Evaluation
from .generation import GenerationConfig, GenerationEvaluator
from .judge import METRIC_OF, METRICS, NOT_JUDGED
from .judge.settings import REFERENCE, JudgeConfig, check

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from ..progress import Progress
    from ..tasks import Example, Task

PREDICTIONS = "predictions"


@dataclass
class JudgedConfig(GenerationConfig):
    """Generation, then a judge."""

    judge: JudgeConfig = field(default_factory=JudgeConfig)


@EVALUATORS.register("judged")
class JudgedEvaluator(GenerationEvaluator):
    Config = JudgedConfig

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.settings: JudgeConfig = config.judge
        self.spent = 0.0

    def check(self, task: TaskConfig) -> None:
        super().check(task)
        check(self.settings)
        if not self.config.save_predictions:
            raise ConfigError("evaluator.save_predictions=false would lose the answers that the judge reads; use true")
        mode, measured = self.settings.mode, METRIC_OF[self.settings.mode]
        if self.settings.base_url and task.metric in METRICS and task.metric != measured:
            raise ConfigError(f"task.metric={task.metric}: evaluator.judge.mode={mode} measures {measured}")

    def ready(self, task: TaskConfig) -> None:
        """The folder to compare with has answers, and the judge answers within seconds."""
        super().ready(task)
        against = self.settings.against
        if not self.settings.base_url:
            return
        saved = Path(str(against)) / PREDICTIONS
        if self.settings.mode == "pairwise" and against != REFERENCE and not saved.is_dir():
            raise ConfigError(f"evaluator.judge.against={against} is no run directory with {PREDICTIONS}/ in it")
        from .judge.client import Client

        Client(self.settings).probe()

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
        from .judge.items import judgeable

        outcome = super().evaluate(model, tokenizer, task, examples, progress, only=only)
        if only is None and self.settings.base_url and judgeable(outcome.rows):
            name = examples[0].task or "test"
            judged = self._on_one_process(outcome.rows, name, progress)
            outcome.notes = [note for note in outcome.notes if not note.startswith(NOT_JUDGED)]
            outcome.add(judged)
            metric = task.config.metric
            for row in outcome.rows if examples[0].task is None and metric in METRICS else ():
                row["score"] = row.get(metric)
        return outcome

    def _on_one_process(self, rows: list[dict[str, Any]], split: str, progress: Progress) -> Evaluation:
        """The judge's scores, asked for by the first process and told to the others."""
        from accelerate import PartialState
        from accelerate.utils import broadcast_object_list

        state = PartialState()
        told = [self._judged(rows, split, progress) if state.is_main_process else None]
        if state.num_processes > 1:
            broadcast_object_list(told)
        assert told[0] is not None
        return told[0]

    def _judged(self, rows: list[dict[str, Any]], split: str, progress: Progress) -> Evaluation:
        from .judge.client import Client
        from .judge.items import items_of
        from .judge.run import judge, opponents_of, verdicts_file
        from .judge.store import Store

        try:
            items = items_of(rows)
            opponents = opponents_of(items, self.settings, self._others(split))
            store = Store(verdicts_file(self.settings))
            judged, self.spent = judge(
                items, self.settings, Client(self.settings), store, progress, opponents=opponents, spent=self.spent
            )
        except KasaCordaError as error:
            progress.say(f"{NOT_JUDGED}: {error}")
            later = "scripts/judge.py RUN_DIR judges the saved answers"
            return Evaluation({}, [{} for _ in rows], {}, [f"{NOT_JUDGED}: {error}; {later}"])
        return Evaluation(judged.scores, judged.rows, judged.errors, judged.notes)

    def _others(self, split: str) -> list[dict[str, Any]] | None:
        """Saved rows of the run that the answers are compared with."""
        from ..store import RunDirectory

        against = self.settings.against
        return None if against in (None, REFERENCE) else RunDirectory(Path(str(against))).predictions(split)
