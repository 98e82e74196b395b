"""What every task answered by a language model shares: prompts, tokens, splits, scores, further evaluated tasks."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ..config.schema import EvaluatorConfig
from ..errors import ConfigError, unknown
from ..evaluation.base import Evaluation
from ..evaluation.decoding import Decoding
from ..evaluation.errors import of_mean
from ..evaluation.generation import EXACT_MATCH, LIKELIHOOD
from ._causal_config import CausalConfig
from ._prompts import Prompted
from ._rows import Row, Rows, read_rows
from ._splits import carve, digest, draw, fingerprint, overlap, text_key
from .base import NOTHING_TRAINS, Example, TaskData

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from ..evaluation._likelihood import Continuation
    from ..progress import Progress


class CausalTask(Prompted):
    """Families add how a row becomes an example (``example``), and what counts of a text (``extract``, ``matches``) or
    how texts are scored (``grade``)."""

    Config: ClassVar[type[CausalConfig]] = CausalConfig

    def __init__(self, config: Any) -> None:
        from ._further import further_settings, further_task

        super().__init__(config)
        settings = further_settings(getattr(config, "also_evaluate", None))
        self.further = {name: further_task(plain) for name, plain in settings.items()}

    @property
    def num_labels(self) -> None:
        return None

    @property
    def select_metric(self) -> str:
        return self.config.select_by

    @abstractmethod
    def example(self, row: Row, key: str) -> Example:
        """A published row as an example: text is the question, label the accepted answers, target the response."""

    def extract(self, text: str) -> str | None:
        """The answer in a generated text; None if it has none."""
        raise NotImplementedError(f"task family {self.config.family} has no rule to extract answers")

    def matches(self, prediction: str | None, accepted: list[str]) -> bool:
        """Whether an extracted answer is one of the accepted ones."""
        raise NotImplementedError(f"task family {self.config.family} has no rule to compare answers")

    @property
    def text_metrics(self) -> tuple[str, ...]:
        """Metrics that ``grade`` gives."""
        return (EXACT_MATCH,)

    @property
    def choice_metrics(self) -> tuple[str, ...]:
        """Metrics that ``grade_continuations`` gives; none where the task has no ``continuations``."""
        return ()

    @property
    def metrics(self) -> tuple[str, ...]:
        """Everything this task can be scored by, further tasks as <task>_<metric>."""
        further = [
            f"{name}_{m}" for name, task in self.further.items() if isinstance(task, CausalTask) for m in task.metrics
        ]
        own = (*self.text_metrics, *self.choice_metrics, LIKELIHOOD) if "test" in self.config.files else ()
        return (*own, *further)

    def evaluated(
        self, model: Any, tokenizer: PreTrainedTokenizerBase, examples: list[Example], batch_size: int, progress: Any
    ) -> Evaluation | None:
        """The whole evaluation of a task that is neither answered nor compared (running text); None for all others."""
        return None

    def next_turn(self, examples: list[Example], texts: list[list[str]]) -> list[Example]:
        """What conversations of several turns ask next, given the answers so far; empty when they are over.

        Their ``grade`` gets the answers to all turns in place of several samples.
        """
        return []

    def ready(self, evaluator: EvaluatorConfig) -> None:
        """Raise ConfigError, in seconds, if grading needs what this machine lacks; called before a model loads."""

    def equip(self, evaluator: EvaluatorConfig, progress: Progress) -> None:
        """What ``grade`` may need beside the texts; called before it."""

    def grade(self, examples: list[Example], texts: list[list[str]]) -> Evaluation:
        """Scores of generated texts (at least one per example), with one row per example."""
        predictions = [self.extract(first) for first, *_ in texts]
        right = [float(self.matches(p, e.label)) for p, e in zip(predictions, examples, strict=True)]
        rows = [{"prediction": p, EXACT_MATCH: r, "score": r} for p, r in zip(predictions, right, strict=True)]
        return Evaluation({EXACT_MATCH: sum(right) / len(right)}, rows, {EXACT_MATCH: of_mean(right)})

    def continuations(self, example: Example) -> list[str]:
        """Texts after the prompt whose likelihoods ``choice_metrics`` compare."""
        raise NotImplementedError(f"task family {self.config.family} has no continuations to compare")

    def grade_continuations(self, examples: list[Example], scored: list[list[Continuation]]) -> Evaluation:
        """Scores from the likelihoods of ``continuations``, with one row per example."""
        raise NotImplementedError(f"task family {self.config.family} has no continuations to compare")

    def decoding(self) -> Decoding:
        """How answers are generated."""
        config = self.config
        return Decoding(
            config.max_new_tokens,
            list(config.stop),
            config.num_beams,
            config.length_penalty,
            config.no_repeat_ngram_size,
            config.samples,
            config.temperature,
            config.top_p,
        )

    def check(self) -> None:
        config = self.config
        if config.kind != "generation":
            raise ConfigError(f"task.kind={config.kind} does not fit task.family={config.family}; use generation")
        for key in ("files", "splits"):
            given = set(getattr(config, key))
            if not given or given - {"train", "test"}:
                raise ConfigError(
                    f"task.{key} names {', '.join(sorted(given)) or 'nothing'}; it must name train and test"
                )
        if set(config.files) != set(config.splits):
            raise ConfigError(f"task.files names {', '.join(config.files)}, task.splits {', '.join(config.splits)}")
        if "test" not in config.files and not self.further:
            raise ConfigError(f"task={config.name} has no test set; name what to evaluate: task.also_evaluate=[gsm8k]")
        self._check_decoding()
        if "{question}" not in config.prompt:
            raise ConfigError(f"task.prompt={config.prompt!r} must hold {{question}}")
        if not config.response.strip():
            raise ConfigError("task.response is empty; it must hold {answer} or {solution}")
        if config.few_shot and config.chat is not None:
            raise ConfigError(f"task.few_shot={config.few_shot} goes before plain prompts; leave out task.chat")
        if config.few_shot and not (config.train_percent or "train" in config.files):
            raise ConfigError(f"task.few_shot={config.few_shot} needs training examples; task={config.name} has none")
        if "" in config.stop:
            raise ConfigError("task.stop holds an empty text, which would end every answer at once")
        for name, task in self.further.items():
            if not isinstance(task, CausalTask):
                raise ConfigError(f"task.also_evaluate={name} is {task.config.kind}; only generation tasks can be")
            if name == config.name or task.further:
                raise ConfigError(f"task.also_evaluate={name} must be another task that evaluates no further ones")
            if "test" not in task.config.files:
                raise ConfigError(f"task.also_evaluate={name} has no test set")
            task.check()
        if config.metric not in self.metrics:
            raise ConfigError(unknown("task.metric", config.metric, self.metrics))
        selecting = (*self.text_metrics, *self.choice_metrics, LIKELIHOOD)
        if config.select_by not in selecting:
            raise ConfigError(unknown("task.select_by", config.select_by, selecting))

    def _check_decoding(self) -> None:
        config = self.config
        if config.temperature is not None and config.num_beams > 1:
            raise ConfigError(
                f"task.temperature={config.temperature} samples, task.num_beams={config.num_beams} searches; choose one"
            )
        if config.samples > 1 and config.temperature is None:
            raise ConfigError(f"task.samples={config.samples} needs task.temperature; greedy answers are all the same")

    def load(self, data_dir: Path | None, selection: str) -> TaskData:
        config = self.config
        train, test, found = self._examples(data_dir, selection != NOTHING_TRAINS or config.few_shot > 0)
        notes = found.notes
        pool = carve(train, config.held_out)[0] if config.few_shot else []
        select: list[Example] = []
        if selection == "held_out":
            train, select = carve(train, config.held_out)
        tests = {"test": draw(test, config.test_examples)} if test else {}
        if test and len(tests["test"]) < len(test):
            notes.append(f"evaluated on {len(tests['test']):,} of {len(test):,} test examples (fixed draw)")
        self.shots.choose(pool, tests.values())
        available = len(train)
        train = draw(train, config.train_examples)
        if len(train) < available:
            notes.append(f"trained on {len(train):,} of {available:,} training examples (fixed draw)")
        for name, task in self.further.items():
            assert isinstance(task, CausalTask)
            tests[name], further_notes = task.test_split(data_dir, name, config.test_examples)
            notes += [f"{name}: {note}" for note in further_notes]
        for name, examples in tests.items():
            shared = overlap(train, examples)
            if shared:
                whose = "test" if name == "test" else name
                notes.append(f"{shared:,} of {len(examples):,} {whose} questions are also in the training set")
        if selection == "paper":
            select = next(iter(tests.values()))
        shown = {"shots": self.shots.examples} if config.few_shot else {}
        key = fingerprint({"train": train, "select": select, **tests, **shown})
        return TaskData(train, select, tests, found.source, key, notes)

    def test_split(self, data_dir: Path | None, name: str, at_most: int | None) -> tuple[list[Example], list[str]]:
        """The test examples of a further task, marked with its name, and notes on them."""
        train, test, found = self._examples(data_dir, self.config.few_shot > 0)
        limits = [limit for limit in (at_most, self.config.test_examples) if limit is not None]
        chosen = draw(test, min(limits, default=None))
        for example in chosen:
            example.task = name
        self.shots.choose(carve(train, self.config.held_out)[0], [chosen])
        notes = [*found.notes, f"from {found.source}"]
        if len(chosen) < len(test):
            notes.append(f"evaluated on {len(chosen):,} of {len(test):,} test examples (fixed draw)")
        return chosen, notes

    def rows(self, data_dir: Path | None, optional: tuple[str, ...]) -> Rows:
        """The published rows of every split; the file of one in ``optional`` may be missing."""
        return read_rows(self.config, data_dir, optional)

    def _examples(self, data_dir: Path | None, trains: bool) -> tuple[list[Example], list[Example], Rows]:
        """(train, test, where they came from); the training file may be missing where nothing ``trains``."""
        config = self.config
        may_lack_it = "test" in config.files and (config.train_percent or not trains)
        found = self.rows(data_dir, ("train",) if may_lack_it else ())
        splits = {
            name: [self.example(row, f"{name}-{i}") for i, row in enumerate(rows)]
            for name, rows in found.splits.items()
        }
        for name, examples in splits.items():
            expected = config.sizes.get(config.splits[name], len(examples))
            if expected != len(examples):
                found.notes.append(f"{config.splits[name]} has {len(examples):,} examples, published are {expected:,}")
        if not config.train_percent or "train" in splits:
            return splits.get("train", []), splits.get("test", []), found
        train: list[Example] = []
        test: list[Example] = []
        for example in splits["test"]:
            trains = digest("training part", text_key(example)) % 100 < config.train_percent
            (train if trains else test).append(example)
        found.notes.append(
            f"no training file: {config.files['test']} divided by hash of the question into a training part "
            f"({len(train):,}) and a test part ({len(test):,})"
        )
        return train, test, found

    def owner(self, examples: list[Example]) -> CausalTask:
        """The task that a split belongs to: this one, or a further one."""
        name = examples[0].task
        task = self if name is None else self.further[name]
        assert isinstance(task, CausalTask)
        return task

    def combine(self, scores: dict[str, dict[str, float]]) -> dict[str, float]:
        """This task's metrics by name, a further task's as <task>_<metric>."""
        further = {f"{n}_{metric}": v for n in self.further for metric, v in scores.get(n, {}).items()}
        return {**scores.get("test", {}), **further}

    def combine_errors(self, errors: dict[str, dict[str, float]]) -> dict[str, float]:
        return self.combine(errors)

    def predict(self, logits: Any) -> list[Any]:
        raise TypeError(f"task {self.config.name} is answered by generated text, not by classes")

    def score(self, predictions: list[Any], references: list[Any]) -> dict[str, float]:
        right = [self.matches(p, accepted) for p, accepted in zip(predictions, references, strict=True)]
        return {EXACT_MATCH: sum(right) / len(right)}
