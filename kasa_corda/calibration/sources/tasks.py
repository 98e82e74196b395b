"""Training texts of tasks: the run's own (IPA), or named ones, alone or mixed (both readings of the GLUE protocol)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import ConfigError, unknown
from . import SOURCES, Row, RunData, Source, Texts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from ...tasks import Task, TaskData
    from ..settings import CalibrationConfig

CONFIGS = Path(__file__).resolve().parents[3] / "configs" / "task"


@SOURCES.register("train")
class OwnTask(Source):
    """The fine-tuning data: training examples of the run's own task, encoded as in training."""

    def load(self, run: RunData) -> list[Texts]:
        assert run.task is not None and run.data is not None
        return [task_texts(run.task, run.data, self.config)]


@SOURCES.register("tasks")
class NamedTasks(Source):
    """Training examples of the tasks in ``calibration.tasks``; several are mixed in equal parts."""

    def check(self) -> None:
        if not self.config.tasks:
            raise ConfigError("calibration.source=tasks needs names, such as calibration.tasks=[glue/rte,glue/mrpc]")
        for name in self.config.tasks:
            if not (CONFIGS / f"{name}.yaml").is_file():
                known = [str(path.relative_to(CONFIGS).with_suffix("")) for path in CONFIGS.rglob("*.yaml")]
                raise ConfigError(unknown("calibration.tasks", name, known))

    def load(self, run: RunData) -> list[Texts]:
        tasks = [task_called(name) for name in self.config.tasks]
        return [task_texts(task, task.load(run.data_dir, run.selection), self.config) for task in tasks]


def task_called(name: str) -> Task:
    """A task with the settings of its config file."""
    from omegaconf import OmegaConf

    from ...tasks import TASKS

    loaded: Any = OmegaConf.load(CONFIGS / f"{name}.yaml")
    loaded.pop("defaults", None)
    family = TASKS[loaded.family]
    return family(OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(family.Config), loaded)))


def task_texts(task: Task, data: TaskData, config: CalibrationConfig) -> Texts:
    """A task's training examples, as the texts it offers for calibration and as encoded in training."""

    def encode(positions: list[int], tokenizer: PreTrainedTokenizerBase) -> list[Row]:
        rows = task.encode([data.train[position] for position in positions], tokenizer)
        return [cut(row, config) for row in rows]

    origin = f"training set of {task.config.name}, {data.source}"
    texts = [e.text for e in data.train] if config.first_text else task.calibration_texts(data.train)
    return Texts(origin, texts, encode)


def cut(row: Row, config: CalibrationConfig) -> Row:
    """An encoded example at most ``length`` tokens long, without its label, with its prompt masked if asked for."""
    width = len(row["input_ids"])
    kept = {name: values[: config.length] for name, values in row.items() if name != "labels"}
    if config.tokens == "response":
        labels = row.get("labels")
        if not isinstance(labels, list) or len(labels) != width:
            raise ConfigError("calibration.tokens=response needs a task whose examples mark their response tokens")
        kept["calibration_mask"] = [int(label != -100) for label in labels[: config.length]]
    return kept
